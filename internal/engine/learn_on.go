//go:build !hakmem_nolearn

package engine

// learning says whether hold times are learnt. The build tag hakmem_nolearn leaves the model out: free
// pages are kept for the break-even time, by the chunk, and nothing is noted of how long pages wait. It
// is there to measure what learning costs and what it is worth.
const learning = true
