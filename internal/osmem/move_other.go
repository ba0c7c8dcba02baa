//go:build !linux

package osmem

import "github.com/hakmem/hakmem/internal/mem"

func move(from, to mem.Addr, size mem.Bytes) error { return ErrCannotMove }
