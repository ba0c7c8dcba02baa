//go:build !hakmem_nolearn

package engine

// learning says whether hold times, lifetimes and the room of caches are learnt. The build tag
// hakmem_nolearn leaves the models out: free pages are kept for the break-even time, by the chunk, nothing is
// noted of how long pages wait and blocks live, only rules say which blocks go to the long lane, and caches
// have the room that the policy says. It is there to measure what learning costs and what it is worth.
const learning = true
