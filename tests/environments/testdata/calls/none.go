//go:build without_hakmem

package main

func work() {}
