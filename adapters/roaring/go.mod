module github.com/hakmem/hakmem/adapters/roaring

go 1.26.0

require (
	github.com/RoaringBitmap/roaring/v2 v2.30.0
	github.com/hakmem/hakmem v0.1.0
)

require golang.org/x/sys v0.49.0 // indirect
