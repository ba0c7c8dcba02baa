package learn

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// phrase is what Sentence says about a kind of decision.
type phrase struct {
	subject    string // with %s for Decision.where, if it is about one of several
	unit       func(float64) string
	more, less string // why it went up, or down
}

var phrases = [nKinds]phrase{
	KindHold: {"the hold time of free pages in band %s", inSeconds,
		"waits there end soon enough to pay for it", "waits there are longer than that would pay for"},
	KindLane: {"the lane for blocks of site %s", inLane,
		"they live longer than those of most sites", "they are freed as soon as those of most sites"},
	KindLeader: {"the lead on board %s", strategy,
		"that strategy costs less in the same rounds", "that strategy costs less in the same rounds"},
	KindEvolution: {subject: "the mode of the learner", unit: func(x float64) string { return Mode(x).String() }},
	KindBudget: {"what caches may hold together", inBytes,
		"more goroutines use caches of their own, or more memory is in use", "fewer goroutines use caches of their own, and less memory is in use"},
	KindPrice: {"the price of a GiB·s", inCPU,
		"the memory in use came nearer to the soft limit", "the memory in use is further from the soft limit again"},
	KindSize: {subject: "the size of blocks for requests of up to %s bytes", unit: inExactBytes,
		less: "so many have such a size that the difference adds up"}, // never more
	KindWMax: {"how much larger than the request a cached large block may be (W_MAX)", times,
		"what that saves is more than what the memory costs", "what that saves is less than what the memory costs"},
	KindBatch: {"the size of %s", times,
		"a block cost less with that", "a block cost less with that"},
	KindTouch: {"the way in which the memory of %s comes", inTouchArm,
		"that costs less for each page that is used", "that costs less for each page that is used"},
	KindHuge: {subject: "making huge pages of superslabs that stay as they are", unit: inHuge},
}

// because says why, of the kinds for which more or less is not all there is to say.
var because = [nKinds]func(Decision) string{
	KindEvolution: func(d Decision) string { return reasons[d.Why] },
	KindHuge:      whyHuge,
}

// reasons says what a cause is.
var reasons = [...]string{
	CauseNone:         "nothing asks for another",
	CauseSettled:      "its figures were steady for three windows",
	CauseSlower:       "p99 was higher than usual for three windows",
	CauseDearer:       "decisions cost more than usual for three windows",
	CauseSizes:        "other sizes than usual were asked for in three windows",
	CausePromise:      "a candidate is said to be cheaper by 8 % or more",
	CauseConfirmed:    "the candidate was as cheap as was said",
	CauseNotCheaper:   "the candidate was not cheaper than the rest",
	CauseMispredicted: "the candidate cost more than was said",
	CauseUndecided:    "the candidate could not be told from the rest in time",
	CauseRefused:      "the system refuses it",
}

// Sentence says in plain English what was decided, why, and what came of it.
func (d Decision) Sentence() string { return d.sentence(nil) }

// where says what the decision is about, with the names of sites as far as they are known.
func (d Decision) where(sites map[uint32]string) string {
	switch d.Kind {
	case KindLane:
		return nameOfSite(d.Where, sites)
	case KindTouch:
		return touchBlocks(d.Where, sites)
	case KindBatch:
		if d.Where < BatchKinds {
			return BatchNames[d.Where]
		}
		return fmt.Sprintf("batches of kind %d", d.Where)
	}
	return strconv.Itoa(int(d.Where))
}

// sentence is Sentence with the names of sites.
func (d Decision) sentence(sites map[uint32]string) string {
	if int(d.Kind) >= len(phrases) || int(d.Why) >= len(reasons) {
		return fmt.Sprintf("At %s something was decided that this version of hakmem has no words for.", inSeconds(d.At.Seconds()))
	}
	p := phrases[d.Kind]
	subject := p.subject
	if strings.Contains(subject, "%s") {
		subject = fmt.Sprintf(subject, d.where(sites))
	}
	went, stayed, became := "went", "stayed at", "became"
	if !d.Applied {
		went, stayed, became = "would have gone", "would have stayed at", "would have become"
	}
	why := p.more
	if d.To < d.From {
		why = p.less
	}
	did := fmt.Sprintf("%s from %s to %s", went, p.unit(d.From), p.unit(d.To))
	if d.From == d.To {
		did, why = stayed+" "+p.unit(d.To), "nothing else was cheaper"
	}
	if of := because[d.Kind]; of != nil {
		why = of(d)
	}
	s := fmt.Sprintf("At %s %s %s, because %s", inSeconds(d.At.Seconds()), subject, did, why)
	if d.Predicted != 0 || d.Outcome != OutcomeOpen {
		s += "; expected " + inCosts(d.Predicted) + " CPU s"
	}
	if d.Outcome != OutcomeOpen {
		s += ", " + became + " " + inCosts(d.Realised)
	}
	if d.Outcome == OutcomeWrong {
		s += ", which was wrong"
	}
	return s + "."
}

// sentences says what was decided about several bands at the same moment, in one sentence for those whose
// hold times went up and one for those where they went down. list is not empty. All of it is of KindHold,
// of one moment, and applied or all of it not.
func sentences(list []Decision) (said []string) {
	for _, up := range []bool{true, false} {
		var some []Decision
		for _, d := range list {
			if d.To >= d.From == up {
				some = append(some, d)
			}
		}
		switch len(some) {
		case 0:
		case 1:
			said = append(said, some[0].Sentence())
		default:
			from, to := span(some, func(d Decision) float64 { return d.From }), span(some, func(d Decision) float64 { return d.To })
			why, went := phrases[KindHold].less, "went"
			if up {
				why = phrases[KindHold].more
			}
			if !some[0].Applied {
				went = "would have gone"
			}
			said = append(said, fmt.Sprintf("At %s the hold times of free pages in %d bands %s from %s to %s, because %s.",
				inSeconds(some[0].At.Seconds()), len(some), went, from, to, why))
		}
	}
	return said
}

// span writes the least and the largest of what of says of decisions, or one of them where they are alike.
func span(list []Decision, of func(Decision) float64) string {
	least, most := math.Inf(1), math.Inf(-1)
	for _, d := range list {
		least, most = min(least, of(d)), max(most, of(d))
	}
	if a, b := inSeconds(least), inSeconds(most); a != b {
		return a + " - " + b
	}
	return inSeconds(least)
}

// tenths writes x with at most one digit behind the point.
func tenths(x float64) string { return strconv.FormatFloat(math.Round(x*10)/10, 'f', -1, 64) }

func plain(x float64) string { return strconv.FormatFloat(x, 'g', 3, 64) }

func inLane(x float64) string {
	if x == 0 {
		return "the common one"
	}
	return "the long one"
}

func inTouchArm(x float64) string { return strconv.Quote(TouchArm(x).String()) }

// TouchWhere returns where a decision of KindTouch belongs: to a group of sizes, of a site or (0) of all.
func TouchWhere(site uint32, g TouchGroup) uint32 { return site<<touchWhereBits | uint32(g) }

// touchWhereBits has room for each group. A site has at most 16 bits.
const touchWhereBits = 3

// SiteOfTouch returns the site of a TouchWhere, 0 if it is about all sites.
func SiteOfTouch(where uint32) uint32 { return where >> touchWhereBits }

// touchBlocks says in words which blocks a TouchWhere is about, with the names of sites as far as they are
// known.
func touchBlocks(where uint32, names map[uint32]string) string {
	g := TouchGroup(where & (1<<touchWhereBits - 1))
	s := "fresh blocks of 1 page"
	switch {
	case g+1 >= TouchGroups:
		s = fmt.Sprintf("fresh blocks of %d pages or more", g.Pages())
	case g > 0:
		s = fmt.Sprintf("fresh blocks of %d to %d pages", g.Pages(), 2*g.Pages()-1)
	}
	if site := SiteOfTouch(where); site != 0 {
		s += " of site " + nameOfSite(site, names)
	}
	return s
}

func inHuge(share float64) string {
	switch share {
	case 0:
		return "off"
	case 1:
		return "on"
	}
	return "a trial with one in " + plain(1/share)
}

// whyHuge says why another share of superslabs becomes huge pages.
func whyHuge(d Decision) string {
	switch {
	case d.Why != CauseNone:
		return reasons[d.Why]
	case d.To == 0:
		return "the process took no less CPU time for each miss of a magazine"
	case d.To == 1:
		return "the process took less CPU time for each miss of a magazine"
	}
	return "only a trial shows what that is worth"
}

func strategy(x float64) string { return "strategy " + plain(x) }

// nameOfSite returns the name of a site in quotes, or its number.
func nameOfSite(site uint32, names map[uint32]string) string {
	if name, known := names[site]; known {
		return strconv.Quote(name)
	}
	return strconv.Itoa(int(site))
}

func times(x float64) string { return plain(x) + " times" }

func inCPU(x float64) string { return plain(x) + " CPU s" }

func inSeconds(s float64) string {
	if s > 0 && s < 1 {
		return tenths(s*1000) + " ms"
	}
	return tenths(s) + " s"
}

// inExactBytes writes a size for which each byte counts.
func inExactBytes(n float64) string { return strconv.FormatFloat(n, 'f', -1, 64) + " bytes" }

func inBytes(n float64) string {
	units := [...]string{"bytes", "KiB", "MiB", "GiB"}
	i := 0
	for ; n >= 1024 && i < len(units)-1; i++ {
		n /= 1024
	}
	return tenths(n) + " " + units[i]
}

// inCosts writes x with two digits, and a short exponent where x is small or large.
func inCosts(x float64) string {
	if a := math.Abs(x); a == 0 || a >= 1e-2 && a < 100 {
		return strconv.FormatFloat(x, 'g', 2, 64)
	}
	return strings.NewReplacer("e-0", "e-", "e+0", "e", "e+", "e").Replace(strconv.FormatFloat(x, 'e', 1, 64))
}
