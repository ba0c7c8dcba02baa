//go:build !hakmem_nolearn

package caches_test

const learns = true
