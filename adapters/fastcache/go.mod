module github.com/hakmem/hakmem/adapters/fastcache

go 1.26.0

require (
	github.com/cespare/xxhash/v2 v2.3.0
	github.com/golang/snappy v1.0.0
	github.com/hakmem/hakmem v0.1.0
)

require golang.org/x/sys v0.49.0 // indirect
