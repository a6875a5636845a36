package state

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	rulesName = "rules"
	backName  = "rules-back"
)

// SaveRules keeps rules as they were read back, under a key of one line. They
// spare an apply the reading of the kernel's, and no more: they are not synced,
// for after a crash of the machine they are of no use, and whoever loads them
// finds out whether they are whole.
func (d *Dir) SaveRules(key string, write func(io.Writer) error) error {
	return d.saveRules(rulesName, key, write)
}

// SaveBack keeps rules in the same way, as the kernel holds them before a policy
// that has to be confirmed: until a state is committed in which none is.
func (d *Dir) SaveBack(key string, write func(io.Writer) error) error {
	return d.saveRules(backName, key, write)
}

func (d *Dir) saveRules(name, key string, write func(io.Writer) error) error {
	target := filepath.Join(d.path, name)
	if err := d.sweep(name + temporary); err != nil {
		return err
	}
	file, err := os.CreateTemp(d.path, name+temporary+"*")
	if err != nil {
		return writeFailed("write", target, err)
	}
	buffered := bufio.NewWriterSize(file, 1<<16)
	fmt.Fprintln(buffered, key)
	err = write(buffered)
	for _, end := range []func() error{buffered.Flush, file.Close} {
		if failed := end(); err == nil {
			err = failed
		}
	}
	if err == nil {
		err = linkCause(os.Rename(file.Name(), target))
	}
	if err != nil {
		os.Remove(file.Name())
		return writeFailed("write", target, err)
	}
	return nil
}

// LoadRules gives the rules that were kept under a key. It is an
// [fs.ErrNotExist] where none were, or under another key.
func (d *Dir) LoadRules(key string) ([]byte, error) { return d.loadRules(rulesName, key) }

// LoadBack is LoadRules of those of SaveBack.
func (d *Dir) LoadBack(key string) ([]byte, error) { return d.loadRules(backName, key) }

func (d *Dir) loadRules(name, key string) ([]byte, error) {
	path := filepath.Join(d.path, name)
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read rules: %w", err)
	}
	rules, found := bytes.CutPrefix(text, []byte(key+"\n"))
	if !found {
		return nil, fmt.Errorf("read rules: %s is of others: %w", path, fs.ErrNotExist)
	}
	return rules, nil
}
