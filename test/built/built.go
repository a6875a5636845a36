// Package built gives tests and the demo the ipmasq program, as a user runs
// it: a file that is executed, not functions that are called.
package built

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"github.com/ipmasq/ipmasq/test/lab"
)

// Program is the variable of the environment that names a program to use
// instead of building one, for machines without the Go tools.
const Program = "IPMASQ_PROGRAM"

// Root finds the module's own directory, from the working directory upwards.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("there is no go.mod in the working directory or above it")
		}
		dir = parent
	}
}

var once = sync.OnceValues(build)

// Ipmasq gives the path of the program. It is built once a process, into the
// /run of the lab, which goes with the process. Call it inside a lab.
func Ipmasq(t lab.TB) string {
	t.Helper()
	path, err := once()
	if err != nil {
		t.Fatalf("%v", err)
	}
	return path
}

func build() (string, error) {
	if path := os.Getenv(Program); path != "" {
		return filepath.Abs(path)
	}
	root, err := Root()
	if err != nil {
		return "", err
	}
	path := "/run/ipmasq"
	c := exec.Command("go", "build", "-buildvcs=false", "-o", path, "./cmd/ipmasq")
	c.Dir = root
	if out, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build ipmasq: %w\n%s", err, out)
	}
	return path, nil
}
