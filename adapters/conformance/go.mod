module github.com/hakmem/hakmem/adapters/conformance

go 1.26.0
