//go:build !linux

package osmem

import "github.com/hakmem/hakmem/internal/mem"

func renew(addr mem.Addr, size mem.Bytes) error { return ErrNotSupported }
