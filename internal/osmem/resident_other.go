//go:build !linux

package osmem

import "github.com/hakmem/hakmem/internal/mem"

func hugePages(addr mem.Addr, size mem.Bytes, want bool) error { return nil }

func collapse(addr mem.Addr, size mem.Bytes) error { return ErrNotSupported }

func hugePageMode() string { return "" }

func hugePageSize() mem.Bytes { return 0 }

func residentBytes() (uint64, bool) { return 0, false }
