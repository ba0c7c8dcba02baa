// Package profile holds the tests of package hakmempprof that need the reader of go tool pprof,
// github.com/google/pprof/profile: the core module does not require it. It has no code of its own.
package profile
