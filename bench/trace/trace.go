// Package trace turns recordings of allocations, and distributions of sizes, into tapes: flat lists
// of operations that a loop in Go and one in C execute alike.
//
//	recording ── Reader ── Compile ──┐
//	                                 ├── Tape ── Save, Load ── executors
//	distribution ── (…).Tape ────────┘
//
// docs/traces.md has the formats, the layout of a tape and what becomes of each oddity of a
// recording.
package trace

import (
	"fmt"
	"strings"
)

// A Kind says what an event or an operation does.
type Kind uint8

// The kinds. The numbers are those in a tape's file; ThreadDone is in no tape.
const (
	Malloc Kind = iota
	Calloc
	Realloc
	Memalign
	Free
	ThreadDone
)

var kindNames = [...]string{"malloc", "calloc", "realloc", "memalign", "free", "thread_done"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// An Event is one line of a recording.
type Event struct {
	Line   int    // counted from 1; not written by a Writer
	Thread uint32 // as recorded
	Kind   Kind
	// ID and Old name blocks: ID is the block allocated or freed, Old the block that Realloc was
	// given. 0 is no block, C's NULL.
	ID, Old uint64
	Size    uint64 // bytes asked for; of a Calloc, the product
	Align   uint64 // bytes; Memalign's only, as recorded
}

// A Format is the syntax of a recording.
type Format uint8

// The formats.
const (
	Auto   Format = iota // recognised from the first lines
	Wee                  // wee_alloc's Alloc(n), Free(i)
	AOSP                 // Android's memory_replay
	Hakmem               // ours, "hakmem trace 1"
)

var formatNames = [...]string{"auto", "wee", "aosp", "hakmem"}

func (f Format) String() string {
	if int(f) < len(formatNames) {
		return formatNames[f]
	}
	return fmt.Sprintf("Format(%d)", uint8(f))
}

// ParseFormat returns the format of that name: auto, wee, aosp or hakmem.
func ParseFormat(name string) (Format, error) {
	for i, n := range formatNames {
		if n == name {
			return Format(i), nil
		}
	}
	return Auto, fmt.Errorf("trace format %q: use one of %s", name, strings.Join(formatNames[:], ", "))
}
