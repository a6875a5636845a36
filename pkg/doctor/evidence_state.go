package doctor

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ipmasq/ipmasq/pkg/state"
)

// StateEvidence is what is on disk, and who works on it.
type StateEvidence struct {
	// Problem is why the folder cannot be used, or nil.
	Problem error
	State   state.State
	History []state.Entry
	// Changed are files of the applied policy that say something else now.
	Changed []string
	// Daemon is the one that runs for this folder, or nil; Daemons are all that
	// work on this network namespace.
	Daemon  *state.Daemon
	Daemons []Process
	// Unit is where a service manager has been told to start the daemon, or "".
	Unit string
}

func readState(_ context.Context, h *Host) error {
	s := h.source
	if s.Engine.State == nil {
		if errors.Is(s.StateProblem, fs.ErrPermission) {
			return s.StateProblem
		}
		h.State.Problem = s.StateProblem
		return nil
	}
	found, err := s.Engine.State.Load()
	switch {
	case errors.Is(err, fs.ErrPermission):
		return err
	case err != nil:
		h.State.Problem = err
		return nil
	}
	h.State.State = *found
	if history, err := s.Engine.State.LoadHistory(); err == nil { // nothing depends on it
		h.State.History = history.Entries
	}
	h.State.Changed = changed(s, found.Applied)
	h.State.Daemon, err = s.Engine.State.LoadDaemon()
	return err
}

// changed finds the files that differ from what was applied. Names that are
// relative to where somebody stood then tell nothing now.
func changed(s Source, a *state.Applied) (out []string) {
	if a == nil {
		return nil
	}
	sources, err := s.Engine.State.LoadPolicy(a.Digest)
	if err != nil {
		return nil // the policy's own reading says so
	}
	for _, f := range sources {
		if !filepath.IsAbs(f.Name) {
			continue
		}
		if text, err := os.ReadFile(f.Name); err == nil && !bytes.Equal(text, f.Text) {
			out = append(out, f.Name)
		}
	}
	return out
}

// wants is where systemd is told what to start.
const wants = "/etc/systemd/system/*.wants/ipmasq.service"

func readDaemons(_ context.Context, h *Host) error {
	if len(h.Place.Prefix) == 0 { // units are of the machine's own namespace
		if _, err := os.Stat("/run/systemd/system"); err == nil {
			if found, _ := filepath.Glob(wants); len(found) > 0 {
				h.State.Unit = found[0]
			}
		}
	}
	all, err := daemons(h.source.Engine.NetNS.ID())
	h.State.Daemons = all
	return err
}
