//go:build !unix

package main

func mapping(bool) uintptr { panic(skip("no syscall.Mmap on this system")) }
