module github.com/hakmem/hakmem/adapters/swiss

go 1.26.0

require (
	github.com/cockroachdb/swiss v0.0.0-20260820225851-333444432258
	github.com/hakmem/hakmem v0.1.0
)

require golang.org/x/sys v0.49.0 // indirect
