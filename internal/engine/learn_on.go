//go:build !hakmem_nolearn

package engine

// learning says whether hold times and the room of caches are learnt. The build tag hakmem_nolearn leaves
// both out: free pages are kept for the break-even time, by the chunk, nothing is noted of how long pages
// wait, and caches have the room that the policy says. It is there to measure what learning costs and what
// it is worth.
const learning = true
