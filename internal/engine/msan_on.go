//go:build msan

package engine

// msan says that this is a program built with -msan.
const msan = true
