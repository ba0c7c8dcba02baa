package memory

// Counters says whether this build keeps the public counters.
const Counters = counters
