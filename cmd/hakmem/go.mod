module github.com/hakmem/hakmem/cmd/hakmem

go 1.26.0

require (
	github.com/hakmem/hakmem v0.0.0
	github.com/hakmem/hakmem/bench v0.0.0
)

require (
	github.com/urfave/cli/v3 v3.14.0
	golang.org/x/sys v0.49.0 // indirect
	modernc.org/memory v1.12.1 // indirect
)

replace (
	github.com/hakmem/hakmem => ../..
	github.com/hakmem/hakmem/bench => ../../bench
)
