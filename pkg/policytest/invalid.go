package policytest

import (
	"errors"

	"github.com/ipmasq/ipmasq/pkg/policy"
)

// Invalid is the mistakes of a file, or of a policy that it names, and the text
// to show them in.
type Invalid struct {
	policy.Errors
	Sources []policy.Source
}

// invalid gives the mistakes that a reader noted, or nil.
func invalid(r *policy.Reader) error {
	return within(r.Err(), r.Sources())
}

// within gives mistakes the text to show them in; another error stays what it is.
func within(err error, sources []policy.Source) error {
	var errs policy.Errors
	if errors.As(err, &errs) {
		return &Invalid{errs, sources}
	}
	return err
}

// Unwrap gives the mistakes.
func (i *Invalid) Unwrap() error { return i.Errors }
