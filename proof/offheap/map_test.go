package offheap_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/hakmem/hakmem/hakmemtest"
	"github.com/hakmem/hakmem/internal/testkit/mapmodel"
	"github.com/hakmem/hakmem/offheap"
)

// playMap runs the machine of a map with choices that rapid draws, and can make fewer.
func playMap(t *testing.T, newMap func() mapmodel.Map) {
	hakmemtest.NoLeaks(t)
	rapid.Check(t, func(t *rapid.T) {
		c := mapmodel.New(newMap(), func(what string, n int) int { return rapid.IntRange(0, n-1).Draw(t, what) }, nil)
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			if err := c.Step(); err != nil {
				t.Error(err)
				break
			}
		}
		if err := c.End(); err != nil {
			t.Error(err)
		}
	})
}

// TestMap: a Map does what Go's map does.
func TestMap(t *testing.T) {
	playMap(t, func() mapmodel.Map { return mapmodel.OfNumbers{Map: offheap.NewMap[uint64, mapmodel.Value]()} })
}

// TestStringMap: a StringMap does what Go's map does.
func TestStringMap(t *testing.T) {
	playMap(t, func() mapmodel.Map { return mapmodel.OfStrings{StringMap: offheap.NewStringMap[mapmodel.Value]()} })
}
