package state

import (
	"errors"
	"fmt"
	"time"
)

// Unconfirmed is a policy that goes back by itself.
type Unconfirmed struct {
	// ID is another one for each apply, also of the same policy.
	ID     string `json:"id"`
	Digest string `json:"digest"`
	// Deadline is when it goes back, by CLOCK_BOOTTIME of the boot that Boot
	// names: a clock that is set neither shortens nor lengthens the time.
	Boot     string        `json:"boot"`
	Deadline time.Duration `json:"deadline_ns"`
	// Window is how long there was to confirm it.
	Window time.Duration `json:"window_ns"`
	// Back is what was applied before, nil where nothing was, and BackPrevious
	// what stood before that.
	Back         *Applied `json:"back,omitempty"`
	BackPrevious *Applied `json:"back_previous,omitempty"`
	// Sysctls are the names of those that were remembered before.
	Sysctls []string `json:"sysctls,omitempty"`
	// Rules is the digest of the rules that were in the kernel before, which
	// SaveBack keeps.
	Rules string `json:"rules,omitempty"`
	// Backend is the name of the backend that held them.
	Backend string `json:"backend,omitempty"`
}

func (u *Unconfirmed) validate() error {
	if err := checkDigest(u.Digest); err != nil {
		return err
	}
	if u.ID == "" || u.Boot == "" || u.Deadline <= 0 || u.Window <= 0 {
		return errors.New("an unconfirmed policy without id, boot or deadline")
	}
	if u.Window > 1000*time.Hour {
		return fmt.Errorf("an unconfirmed policy with %v to confirm it", u.Window)
	}
	return nil
}
