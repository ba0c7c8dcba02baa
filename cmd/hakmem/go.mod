module github.com/hakmem/hakmem/cmd/hakmem

go 1.26.0

require (
	github.com/hakmem/hakmem v0.1.0
	github.com/hakmem/hakmem/bench v0.1.0
	github.com/urfave/cli/v3 v3.14.0
	golang.org/x/sys v0.49.0
)

require (
	github.com/HdrHistogram/hdrhistogram-go v1.4.0 // indirect
	github.com/aclements/go-moremath v0.0.0-20210112150236-f10218a38794 // indirect
	github.com/hakmem/hakmem/bench/cgomalloc v0.1.0 // indirect
	golang.org/x/perf v0.0.0-20260908200009-22c9c6c9d4da // indirect
	modernc.org/memory v1.12.1 // indirect
)
