package flows

// What a policy would do otherwise, where it takes no address to say it.
const (
	Missing  = "is not translated"
	Dropped  = "would be dropped"
	Rejected = "would be rejected"
	Bare     = "would not be translated"
)

// What it would do otherwise begins with, where an address says it.
const (
	wouldGo    = "would go to "
	wouldLeave = "would leave as "
)

// Refused says that the connection would not pass.
func (j Judgement) Refused() bool { return j.Why == Dropped || j.Why == Rejected }

// Untranslated says that an entry would translate the connection's source or
// destination, and nobody has.
func (j Judgement) Untranslated() bool { return j.Why == Missing }
