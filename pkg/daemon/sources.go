package daemon

import (
	"errors"
	"fmt"
	"os"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/link"
)

// told is an event with the generation of the rules that it is about, or 0, and
// who has committed it, whatever it is about.
type told struct {
	event
	generation uint32
	by         string
}

// sources are what tells of changes.
type sources struct {
	events chan told
	quit   chan struct{}
	log    *Log
	files  *fileWatch
	links  *link.Watcher
	rules  Rules
	ends   []chan struct{}
}

// open begins to listen. Without one for files or rules the daemon looks for
// itself, less often; without one for links it would not know what to look at.
func (s *sources) open(d *Daemon) (err error) {
	if s.files, err = watchFiles(); err != nil {
		s.log.Printf(Warning, "%v: policy files are looked at every %v", err, printsEvery)
	} else {
		s.run(s.fileEvents)
	}
	err = d.Engine.NetNS.Do(func() (err error) {
		s.links, err = link.Watch()
		return err
	})
	if err != nil {
		return err
	}
	s.run(s.linkEvents)
	if s.rules = d.Rules; s.rules != nil {
		s.run(s.ruleEvents)
	}
	return nil
}

func (s *sources) run(source func() error) {
	end := make(chan struct{})
	s.ends = append(s.ends, end)
	go func() {
		defer close(end)
		if err := source(); err != nil && !errors.Is(err, os.ErrClosed) && !errors.Is(err, backend.ErrStopped) {
			s.log.Printf(Error, "%v: what it would have told is found late, or not at all: restart the daemon", err)
		}
	}()
}

// send gives an event, unless everything ends.
func (s *sources) send(e told) error {
	select {
	case s.events <- e:
		return nil
	case <-s.quit:
		return os.ErrClosed
	}
}

func (s *sources) fileEvents() error {
	for {
		writing, err := s.files.next()
		if err == nil {
			err = s.send(told{event: event{cause: causeFiles, writing: writing}})
		}
		if err != nil {
			return err
		}
	}
}

func (s *sources) linkEvents() error {
	for {
		c, err := s.links.Next()
		if err != nil {
			return err
		}
		var e event
		if c.Host {
			e.cause |= causeHost
		}
		if c.Settings {
			e.cause |= causeSettings
		}
		if err := s.send(told{event: e}); err != nil {
			return err
		}
	}
}

func (s *sources) ruleEvents() error {
	for {
		f, err := s.rules.Next()
		if err != nil {
			return fmt.Errorf("listen to commits: %w", err)
		}
		e := told{generation: f.Generation, by: f.Who()}
		if f.Ours {
			e.cause, e.who = causeRules, f.Who()
			if f.Gone {
				e.cause |= causeGone
			}
		}
		if err := s.send(e); err != nil {
			return err
		}
	}
}

func (s *sources) close() {
	close(s.quit)
	if s.files != nil {
		s.files.close()
	}
	if s.links != nil {
		s.links.Close()
	}
	if s.rules != nil {
		s.rules.Stop()
	}
	for _, end := range s.ends {
		<-end
	}
	if s.rules != nil {
		s.rules.Close()
	}
}
