module github.com/hakmem/hakmem/bench

go 1.26.0

require (
	github.com/hakmem/hakmem v0.1.0
	github.com/hakmem/hakmem/bench/cgomalloc v0.1.0
	golang.org/x/sys v0.49.0
	modernc.org/memory v1.12.1
)
