package engine

import (
	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// This file makes size classes at peaks of the sizes that the program asks for (learn.Sizes), once in a
// window of the Learner.

// peaks is what is known of the sizes asked for, and the counts of askedSizes when the last window ended.
// Owned by scavenger.mu.
var peaks struct {
	learn.Sizes
	asked [learn.SizeSteps]uint32
}

// learnSizes ends a window of sizes. It makes a class if a size is worth one, and notes it in above. While
// what is learnt is frozen, the requests are forgotten. With the race detector no class is made: a
// program's tests should not depend on how long they run. Under scavenger.mu.
func learnSizes(above *learn.Learner, frozen bool) {
	if raced || policy.AtStart().Dyn != policy.DynAuto {
		return
	}
	region.mu.Lock()
	full := len(addedSizes) == sizeclass.NumSpare
	region.mu.Unlock()
	if full {
		return
	}
	var asked [learn.SizeSteps]uint32
	for i := range asked {
		n := askedSizes[i].Load()
		asked[i], peaks.asked[i] = n-peaks.asked[i], n
	}
	if frozen {
		return
	}
	var room [sizeclass.Num - sizeclass.NumTiny]learn.SizeClass
	classes := room[:0]
	below := sizeclass.MaxTiny
	for c := sizeclass.ID(sizeclass.NumTiny).Next(); c != 0; c = c.Next() {
		size := int(c.Bytes())
		classes = append(classes, learn.SizeClass{Below: below, Size: size, Share: sizeclass.SlabShare(c.Bytes()), InUse: usedBytes(c)})
		below = size
	}
	p, ok := peaks.Window(&asked, classes, func(size int) float64 { return sizeclass.SlabShare(mem.Bytes(size)) })
	if !ok {
		return
	}
	region.mu.Lock()
	err := addSize(learn.BlockSize{Size: p.Size, Weight: p.Asked})
	region.mu.Unlock()
	if err == nil { // otherwise a policy file has just taken the last class
		above.NoteSize(p)
	}
}
