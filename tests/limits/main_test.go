// Package limits tests hakmem in processes whose address space is limited. The limit is set before
// hakmem's first allocation, or before the process starts. Each case runs in a process of its own.
package limits_test

import (
	"testing"

	"github.com/hakmem/hakmem/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }
