module github.com/hakmem/hakmem/adapters/wazero

go 1.26.0

require (
	github.com/hakmem/hakmem v0.1.0
	github.com/tetratelabs/wazero v1.12.0
)

require golang.org/x/sys v0.49.0 // indirect
