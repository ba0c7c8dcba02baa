//go:build !linux

package osmem

import (
	"errors"

	"github.com/hakmem/hakmem/internal/mem"
)

func populate(addr mem.Addr, size mem.Bytes) error { return ErrNotSupported }

func cannotPopulate(err error) bool { return errors.Is(err, ErrNotSupported) }
