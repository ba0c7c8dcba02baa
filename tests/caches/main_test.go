// Package caches measures what the caches of free blocks hold when many Ps allocate and free blocks of
// all sizes. Each case runs in a process of its own.
package caches_test

import (
	"testing"

	"github.com/hakmem/hakmem/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }
