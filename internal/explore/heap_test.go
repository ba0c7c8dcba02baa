package explore

import (
	"fmt"
	"testing"
)

// The front of a Heap (internal/engine/heaps.go, harvest.go, heapfront.go, and heap.go of the root):
// its owner's fast and slow paths, and the harvester, which empties the front while the owner does
// something else.
//
// One goroutine follows a script, one harvester harvests as often as its script says, and a collector
// ends a Heap that was dropped. There is one front, and its magazine of one class, with three slots
// above the sentinel's. The class is tiny (its fast path is inlined and can be preempted anywhere) or
// mid (its fast path ends before the world stops). A Heap can be closed or dropped; the next one gets
// the same front.
//
// Stores of the owner to busy are plain: the model delays each for as long as the next one, an atomic
// operation of the owner, or a stop of the world.

// What the owner does: one letter for each operation.
const (
	oMalloc  = 'm'
	oFree    = 'f' // if it holds a block
	oTrim    = 't' // Heap.Trim
	oReopen1 = 'r' // only the last step of a slow path: ReopenHeap
	oClose   = 'c' // Close, and NewHeap
	oDrop    = 'x' // the Heap becomes unreachable; the last operation
)

const (
	hCalm = iota
	hAsked
	hTaken
	hHarvested
)

const (
	hTrap    = 0
	hOwn     = 1
	lastSlot = 3
	delayed0 = 1 // delayed: busy will be 0
	delayed1 = 2
)

type heapModel struct {
	script   string
	harvests uint8
	mid      bool // the class
	init     heapWorld

	slotFirst bool // a push stores the slot before the top

	preemptible bool // the fast path above 1 KiB is preempted
	noGrace     bool
	noBusy      bool // the harvester does not look whether the owner is busy
	busyEarly   bool // it looks before the grace
	noTurns     bool // hold does not look at duty
	takeTop     bool // the harvester takes the block in the top slot too
	noSentinel  bool // it does not write the new sentinel
	blind       bool // ReopenHeap does not look at duty after its store
	trapFirst   bool // ask stores the trap before it changes duty
	unlisted    bool // ask does not look whether the Heap is still listed
	rawPointer  bool // ask's pointer does not keep the Heap
	storeTaken  bool // harvest stores taken without a comparison
	forgetLate  bool // Close empties and recycles the front before it forgets the Heap
}

type heapWorld struct {
	fast    [3]uint8 // the word in each Heap: hOwn or hTrap; Heaps are 1 and 2
	listed  uint8    // the Heap in the list, or 0
	locked  uint8    // the process that has the list's lock, or 0
	dropped bool     // the Heap in use is unreachable for the program
	pinned  uint8    // the Heap that the harvester's pointer keeps, or 0
	freed   [3]bool  // the Heap's memory is something else's
	busy    uint8
	delay   uint8 // a store to busy that is under way
	duty    uint8
	slot    [lastSlot + 1]uint8
	top     uint8
	bottom  uint8 // where the sentinel is
	slab    uint8 // free blocks, as a set of 1 << block
	o       heapOwner
	h       heapHarvester
	g       uint8 // the collector's step
	left    uint8 // harvests to do
	bad     uint8
}

type heapOwner struct {
	op      uint8
	at      uint8
	heap    uint8 // the Heap in use
	f, t, b uint8
	woken   bool
	inFast  bool // between the load of the front and the last store
	then    uint8
	held    uint8
}

type heapHarvester struct {
	at   uint8
	heap uint8
	seen uint8 // busy, if read early
	t    uint8
	took uint8
}

var heapBad = [...]string{"", "a block's bit is set twice", "a freed Heap is used"}

const (
	oBegin = iota
	oLoad  // fast path
	oTop
	oSlot
	oStore
	oStore2
	oLook // slowPath
	oHold
	oDuty
	oSettle
	oRegrow
	oCalm
	oReopen
	oAgain
	oWork
	oWork2
	oEmpty
	oRelease
	oForget
	oForgot
	oRecycle
	oNew
	oNewListed
	oEnd
)

var ownerSteps = [...]string{"begin", "fast: load the front", "fast: load the top", "fast: load the slot", "fast: store", "fast: store, second", "reopen: load the front", "hold: busy", "hold: look at duty",
	"settle: asked or taken", "settle: regrow", "settle: calm", "ReopenHeap: store", "ReopenHeap: look at duty", "slow: look", "slow: work", "empty", "release",
	"forget: lock", "forget: unlock", "recycle", "NewHeap", "NewHeap: listed"}

const (
	hBegin = iota
	hValue
	hLock
	hDuty
	hTrapped
	hUnlock
	hGrace
	hBusy
	hTake
	hTop
	hSentinel
	hGive
	hDone
)

var harvesterSteps = [...]string{"choose", "weak pointer", "lock", "duty: asked", "store the trap", "unlock", "grace", "look at busy", "duty: taken", "load the top", "sentinel", "give blocks back", "duty: harvested"}

const (
	gWait = iota
	gForget
	gForgot
	gHold
	gDuty
	gEmpty
	gEnd
)

const (
	byOwner = 1 + iota
	byHarvester
	byCollector
)

func (m *heapModel) model() Model[heapWorld] {
	init := m.init
	init.left = m.harvests
	x := Model[heapWorld]{Init: init, Always: m.always, AtEnd: m.atEnd}
	x.Procs = append(x.Procs,
		func(s heapWorld, to func(string, heapWorld)) {
			at := s.o.at
			if m.owner(&s) {
				to(fmt.Sprintf("owner: %s (Heap %d, top %d, block %d)", ownerSteps[at], s.o.heap, s.o.t, s.o.b), s)
			}
		},
		func(s heapWorld, to func(string, heapWorld)) {
			at := s.h.at
			if m.harvester(&s) {
				to(fmt.Sprintf("harvester: %s (Heap %d, top %d, took %b)", harvesterSteps[at], s.h.heap, s.h.t, s.h.took), s)
			}
		},
		func(s heapWorld, to func(string, heapWorld)) {
			if at := s.g; m.collector(&s) {
				to(fmt.Sprintf("collector: %d", at), s)
			}
		},
		func(s heapWorld, to func(string, heapWorld)) {
			if s.delay != 0 {
				s.arrive()
				to("a store to busy arrives", s)
			}
		})
	return x
}

// arrive ends the delay of a store to busy.
func (s *heapWorld) arrive() {
	if s.delay != 0 {
		s.busy, s.delay = s.delay-delayed0, 0
	}
}

func (s *heapWorld) storeBusy(v uint8) {
	s.arrive()
	s.delay = delayed0 + v
}

func (s *heapWorld) give(b uint8) {
	if s.slab>>b&1 != 0 {
		s.bad = 1
	}
	s.slab |= 1 << b
}

// empty gives back all blocks of the magazine, whose sentinel may have been moved.
func (s *heapWorld) empty() {
	for s.slot[s.top] != 0 && s.top > s.bottom {
		s.give(s.slot[s.top])
		s.top--
	}
}

func (m *heapModel) owner(s *heapWorld) bool {
	o := &s.o
	op := byte(0)
	if int(o.op) < len(m.script) {
		op = m.script[o.op]
	}
	switch o.at {
	case oBegin:
		switch op {
		case 0:
			return false
		case oMalloc:
			o.at = oLoad
		case oFree:
			if o.at = oEnd; o.held != 0 {
				for o.b = 1; o.held>>o.b&1 == 0; {
					o.b++
				}
				o.held &^= 1 << o.b
				o.at = oLoad
			}
		case oTrim, oClose, oReopen1:
			o.at = oLook
		case oDrop:
			s.dropped = true
			o.at = oEnd
		}

	// The fast path: popFront and pushFront, heapMallocMid and heapFreeMid
	case oLoad:
		if s.freed[o.heap] {
			s.bad = 2
		}
		o.f = s.fast[o.heap]
		o.inFast = true
		o.at = oTop
	case oTop:
		o.t = s.top
		switch {
		case o.f == hTrap || op == oFree && o.t == lastSlot:
			o.inFast = false
			o.at = oLook
		case op == oMalloc:
			o.at = oSlot
		default:
			o.at = oStore
		}
	case oSlot:
		o.b = s.slot[o.t]
		if o.at = oStore; o.b == 0 {
			o.inFast = false
			o.at = oLook
		}
	case oStore:
		switch {
		case op == oMalloc:
			s.top = o.t - 1
			o.held |= 1 << o.b
			o.inFast = false
			o.at = oEnd
		case m.slotFirst:
			s.slot[o.t+1] = o.b
			o.at = oStore2
		default:
			s.top = o.t + 1
			o.at = oStore2
		}
	case oStore2:
		if m.slotFirst {
			s.top = o.t + 1
		} else {
			s.slot[o.t+1] = o.b
		}
		o.inFast = false
		o.at = oEnd

	// The front for later calls, which the engine looks for last and the model first; then the
	// operation, or TrimHeapFront, or CloseHeapFront
	case oLook:
		o.then = oWork
		switch op {
		case oTrim, oClose:
			o.then = oEmpty
		}
		if s.fast[o.heap] != hOwn {
			o.then = oReopen
		} else if op == oReopen1 {
			o.at = oEnd
			break
		} else if op == oClose && !m.forgetLate {
			o.at = oForget
			break
		}
		o.at = oHold
	case oHold:
		s.storeBusy(1)
		if o.at = oDuty; m.noTurns {
			o.at = o.then
		}
	case oDuty:
		switch s.duty {
		case hCalm:
			o.at = o.then
		case hHarvested:
			o.at = oRegrow
		default:
			o.at = oSettle
		}
	case oSettle:
		if s.duty == hTaken { // Gosched, until it is something else
			return false
		}
		if s.duty == hAsked {
			s.arrive()
			s.duty = hCalm
			o.woken = true
		}
		o.at = oDuty
	case oRegrow:
		for s.bottom > 0 {
			for i := s.bottom; i <= s.top; i++ {
				s.slot[i-1] = s.slot[i]
			}
			s.bottom--
			s.top--
		}
		o.at = oCalm
	case oCalm:
		s.arrive()
		s.duty = hCalm
		o.at = oDuty

	case oReopen:
		s.arrive()
		s.fast[o.heap] = hOwn
		if o.at = oAgain; m.blind {
			o.at = oRelease
		}
	case oAgain:
		if o.at = oRelease; s.duty != hCalm {
			o.at = oHold // and oReopen again
		}

	case oWork:
		o.t = s.top
		o.at = oWork2
	case oWork2:
		switch {
		case op == oMalloc && s.slot[o.t] != 0:
			o.b = s.slot[o.t]
			s.top = o.t - 1
			o.held |= 1 << o.b
		case op == oMalloc: // refill
			if b := s.slab & -s.slab; b != 0 {
				s.slab &^= b
				o.held |= b
				for s.slab != 0 && s.top < lastSlot {
					b := s.slab & -s.slab
					s.slab &^= b
					s.top++
					for s.slot[s.top] = 1; b>>s.slot[s.top]&1 == 0; {
						s.slot[s.top]++
					}
				}
			}
		case o.t < lastSlot:
			s.top = o.t + 1
			s.slot[s.top] = o.b
		default: // overflow: the oldest block goes back
			s.give(s.slot[s.bottom+1])
			copy(s.slot[s.bottom+1:], s.slot[s.bottom+2:])
			s.slot[lastSlot] = o.b
		}
		o.b = 0
		if o.at = oRelease; o.woken {
			o.at = oEmpty // pollHeap
		}
	case oEmpty: // one block in each step
		o.woken = false
		if s.top > s.bottom && s.slot[s.top] != 0 {
			s.give(s.slot[s.top])
			s.top--
		} else {
			o.at = oRelease
		}
	case oRelease:
		s.storeBusy(0)
		switch {
		case o.then == oReopen:
			o.at = oLook // which finds its own front, unless it has been asked again
		case op == oClose && m.forgetLate:
			s.arrive()
			o.at = oForget
		case op == oClose:
			o.at = oRecycle
		default:
			o.at = oEnd
		}
	case oForget:
		if s.locked != 0 {
			return false
		}
		s.arrive()
		s.locked = byOwner
		s.listed = 0
		o.at = oForgot
	case oForgot:
		s.locked = 0
		o.then = oEmpty
		if o.at = oHold; m.forgetLate {
			o.at = oRecycle
		}
	case oRecycle: // and initFront, by the next NewHeap
		s.arrive()
		s.duty, s.bottom, s.top, s.slot = hCalm, 0, 0, [lastSlot + 1]uint8{}
		o.at = oNew
	case oNew:
		if s.locked != 0 {
			return false
		}
		o.heap++
		s.listed = o.heap
		o.at = oEnd
	}
	if o.at == oEnd {
		*o = heapOwner{op: o.op + 1, held: o.held, heap: o.heap, woken: o.woken}
	}
	return true
}

func (m *heapModel) harvester(s *heapWorld) bool {
	h := &s.h
	end := func() {
		*h = heapHarvester{}
		s.left--
	}
	switch h.at {
	case hBegin:
		if s.left == 0 {
			return false
		}
		if h.heap = s.listed; h.heap == 0 || s.duty == hHarvested {
			end()
			break
		}
		h.at = hValue
	case hValue:
		if s.freed[h.heap] && !m.rawPointer {
			end()
			break
		}
		if !m.rawPointer {
			s.pinned = h.heap
		}
		h.at = hLock
	case hLock:
		if s.locked != 0 {
			return false
		}
		s.locked = byHarvester
		if h.at = hDuty; m.trapFirst {
			h.at = hTrapped
		}
	case hDuty:
		if s.listed != h.heap && !m.unlisted || s.duty != hCalm && s.duty != hAsked {
			s.locked, s.pinned = 0, 0
			end()
			break
		}
		s.duty = hAsked
		if h.at = hTrapped; m.trapFirst {
			h.at = hUnlock
		}
	case hTrapped:
		if s.freed[h.heap] {
			s.bad = 2
		}
		s.fast[h.heap] = hTrap
		if h.at = hUnlock; m.trapFirst {
			h.at = hDuty
		}
	case hUnlock:
		s.locked, s.pinned = 0, 0
		h.seen = s.busy
		if h.at = hGrace; m.noGrace {
			h.at = hBusy
		}
	case hGrace:
		if m.mid && !m.preemptible && s.o.inFast {
			return false
		}
		s.arrive()
		h.at = hBusy
	case hBusy:
		if !m.busyEarly {
			h.seen = s.busy
		}
		if h.at = hTake; h.seen != 0 && !m.noBusy {
			end()
		}
	case hTake:
		if s.duty != hAsked && !m.storeTaken {
			end()
			break
		}
		s.duty = hTaken
		h.at = hTop
	case hTop:
		h.t = s.top
		switch {
		case m.mid && h.t > s.bottom: // emptyMagazine, one block at a time
			h.took = s.slot[h.t]
			h.at = hGive
		case !m.mid && (h.t >= s.bottom+2 || m.takeTop && h.t > s.bottom):
			h.at = hSentinel
		default:
			h.at = hDone
		}
	case hSentinel: // cut
		at := h.t - 1
		if m.takeTop {
			at = h.t
		}
		for i := s.bottom + 1; i <= at; i++ {
			h.took |= 1 << s.slot[i]
		}
		if !m.noSentinel {
			s.slot[at] = 0
		}
		s.bottom = at
		h.at = hGive
	case hGive:
		if m.mid {
			s.top = h.t - 1
			s.give(h.took)
			h.took = 0
			h.at = hTop
			break
		}
		b := uint8(0)
		for ; h.took>>b&1 == 0; b++ {
		}
		h.took &^= 1 << b
		s.give(b)
		if h.took == 0 {
			h.at = hDone
		}
	case hDone:
		s.duty = hHarvested
		end()
	}
	return true
}

// collector ends a Heap that was dropped. A cleanup runs when neither the program nor the harvester
// has a pointer to the Heap; AbandonHeapFront and takeAbandoned follow. (A fast path that was
// preempted is waited for there by other means: nobodyPreempted.)
func (m *heapModel) collector(s *heapWorld) bool {
	switch s.g {
	case gWait:
		if !s.dropped || s.pinned != 0 {
			return false
		}
		s.freed[s.o.heap] = true
		s.g = gForget
	case gForget:
		if s.locked != 0 {
			return false
		}
		s.locked, s.listed = byCollector, 0
		s.g = gForgot
	case gForgot:
		s.locked = 0
		s.g = gHold
	case gHold:
		s.storeBusy(1)
		s.g = gDuty
	case gDuty:
		switch s.duty {
		case hCalm, hHarvested:
			s.g = gEmpty
		case hAsked:
			s.arrive()
			s.duty = hCalm
		default:
			return false
		}
	case gEmpty:
		s.empty()
		s.storeBusy(0)
		s.arrive()
		s.g = gEnd
	case gEnd:
		return false
	}
	return true
}

func (m *heapModel) always(s heapWorld) string {
	if s.bad != 0 {
		return heapBad[s.bad]
	}
	if s.top > lastSlot || s.top < s.bottom {
		return "the top is outside the magazine"
	}
	if s.o.held&s.slab != 0 {
		return "a block has two holders"
	}
	if s.slab&1 != 0 || s.o.held&1 != 0 {
		return "what is no block is taken for one"
	}
	return ""
}

func (m *heapModel) atEnd(s heapWorld) string {
	if int(s.o.op) < len(m.script) || s.left != 0 || s.dropped && s.g != gEnd {
		return "somebody waits for ever"
	}
	held := s.slab | s.o.held
	for i := s.bottom + 1; i <= s.top; i++ {
		if held>>s.slot[i]&1 != 0 {
			return "a block is in the magazine and elsewhere"
		}
		held |= 1 << s.slot[i]
	}
	if held != heapBlocks {
		return "a block is lost"
	}
	return ""
}

const heapBlocks = 1<<1 | 1<<2 | 1<<3

// Where the scenarios begin: a Heap is open, with all blocks in its magazine, or all but one, which
// its owner holds; or its fast paths have the trap, because calls were watched until now.
var (
	fullHeap = heapWorld{fast: [3]uint8{1: hOwn}, listed: 1, slot: [...]uint8{0, 1, 2, 3}, top: 3, o: heapOwner{heap: 1}}
	heldHeap = heapWorld{fast: [3]uint8{1: hOwn}, listed: 1, slot: [...]uint8{0, 1, 2, 0}, top: 2, o: heapOwner{heap: 1, held: 1 << 3}}
	trapped  = heapWorld{listed: 1, slot: [...]uint8{0, 1, 2, 3}, top: 3, o: heapOwner{heap: 1}}
)

var heapScenarios = map[string]heapModel{
	"it allocates and frees":            {init: fullHeap, script: "mfmf", harvests: 2},
	"it frees and allocates":            {init: heldHeap, script: "fmmf", harvests: 2},
	"it frees, the slot first":          {init: heldHeap, script: "fmfm", harvests: 2, slotFirst: true},
	"it allocates all and frees all":    {init: fullHeap, script: "mmmfff", harvests: 2},
	"it trims":                          {init: heldHeap, script: "ftmf", harvests: 2},
	"it is reopened":                    {init: trapped, script: "rmmff", harvests: 2},
	"it is closed, and another opened":  {init: heldHeap, script: "fcmmf", harvests: 2},
	"it is dropped":                     {init: fullHeap, script: "mfx", harvests: 2},
	"mid: it allocates and frees":       {init: fullHeap, mid: true, script: "mfmf", harvests: 2},
	"mid: it frees and allocates":       {init: heldHeap, mid: true, script: "fmmf", harvests: 2},
	"mid: it is closed, another opened": {init: heldHeap, mid: true, script: "fcmmf", harvests: 2},
}

func TestHeap(t *testing.T) {
	var total Result
	for name, m := range heapScenarios {
		t.Run(name, func(t *testing.T) { total.add(check(t, m.model())) })
	}
	t.Log(total)
}

// TestHeapMutations checks that each part of the protocol is needed.
func TestHeapMutations(t *testing.T) {
	allCaught(t, heapScenarios, func(m heapModel) []Model[heapWorld] { return []Model[heapWorld]{m.model()} }, []mutation[heapModel]{
		{"the harvester does not wait", "no block is taken", func(m *heapModel) { m.noGrace = true }},
		{"the harvester does not look at busy", "set twice", func(m *heapModel) { m.noBusy = true }},
		{"the harvester looks at busy before the stop of the world", "set twice", func(m *heapModel) { m.busyEarly = true }},
		{"slow paths do not look at duty", "set twice", func(m *heapModel) { m.noTurns = true }},
		{"the harvester takes the top slot", "no block is taken", func(m *heapModel) { m.takeTop = true }},
		{"the harvester writes no sentinel", "outside the magazine", func(m *heapModel) { m.noSentinel = true }},
		{"the owner gives its fast paths the front back blindly", "outside the magazine", func(m *heapModel) { m.blind = true }},
		{"the trap is stored before the front is asked for", "two holders", func(m *heapModel) { m.trapFirst = true }},
		{"a Heap that was closed is asked", "two holders", func(m *heapModel) { m.unlisted = true }},
		{"a Heap that was freed is written to", "freed Heap", func(m *heapModel) { m.rawPointer = true }},
		{"the harvester takes without comparing", "set twice", func(m *heapModel) { m.storeTaken = true }},
		{"Close forgets the Heap last", "two holders", func(m *heapModel) { m.forgetLate = true }},
		{"the fast path above 1 KiB is preempted", "no block is taken", func(m *heapModel) { m.preemptible = true }},
	})
}
