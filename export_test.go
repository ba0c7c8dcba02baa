package hakmem

// ExportPolicyFile is what the timer of HAKMEM_POLICY_EXPORT calls, for tests that do not wait for it.
var ExportPolicyFile = exportPolicyFile
