// Package limits tests hakmem where the process's address space is limited, before its
// first allocation or before the process itself. Each case runs in a process of its own.
package limits_test

import (
	"testing"

	"github.com/hakmem/hakmem/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }
