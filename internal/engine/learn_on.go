//go:build !hakmem_nolearn

package engine

// learning says whether hold times and lifetimes are learnt. The build tag hakmem_nolearn leaves the models
// out: free pages are kept for the break-even time, by the chunk, and nothing is noted of how long pages
// wait and blocks live; only rules say which blocks go to the long lane. It is there to measure what
// learning costs and what it is worth.
const learning = true
