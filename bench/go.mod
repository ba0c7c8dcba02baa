module github.com/hakmem/hakmem/bench

go 1.26.0

require (
	github.com/hakmem/hakmem v0.0.0
	modernc.org/memory v1.12.1
)

require golang.org/x/sys v0.49.0 // indirect

replace github.com/hakmem/hakmem => ..
