module github.com/hakmem/hakmem/proof

go 1.26.0

require (
	github.com/hakmem/hakmem v0.1.0
	golang.org/x/exp v0.0.0-20260824195058-e88cd73687aa
	pgregory.net/rapid v1.3.0
)

require golang.org/x/sys v0.49.0 // indirect
