module github.com/hakmem/hakmem/adapters/compare

go 1.26.0
