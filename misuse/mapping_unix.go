//go:build unix

package main

import (
	"syscall"
	"unsafe"
)

// mapping returns the address of memory from mmap, with or without access rights.
func mapping(access bool) uintptr {
	prot := syscall.PROT_NONE
	if access {
		prot = syscall.PROT_READ | syscall.PROT_WRITE
	}
	b, err := syscall.Mmap(-1, 0, 1<<20, prot, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		panic(err)
	}
	return uintptr(unsafe.Pointer(unsafe.SliceData(b)))
}
