package systemd

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// copied gives copies of the units that name the program where it is.
func copied(t *testing.T) []string {
	t.Helper()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		lab.Lacking(t, "%v", err)
	}
	units, err := filepath.Glob("../../examples/systemd/*.service")
	if err != nil || len(units) != 2 {
		t.Fatalf("units %v: %v", units, err)
	}
	dir := t.TempDir()
	for i, unit := range units {
		text, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		units[i] = filepath.Join(dir, filepath.Base(unit))
		named := strings.ReplaceAll(string(text), "=ipmasq ", "="+ipmasq(t)+" ")
		if err := os.WriteFile(units[i], []byte(named), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return units
}

// systemd says nothing about the units: there is no key that it does not know, and no value.
func TestVerify(t *testing.T) {
	units := copied(t)
	verify := func() string {
		out, _ := exec.Command("systemd-analyze", append([]string{"verify", "--man=no", "--recursive-errors=no"}, units...)...).CombinedOutput()
		return string(out)
	}
	if out := verify(); out != "" {
		t.Errorf("systemd-analyze verify:\n%s", out)
	}
	text, err := os.ReadFile(units[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(units[0], append(text, "\n[Service]\nWatchdog=1\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	if out := verify(); !strings.Contains(out, "Watchdog") {
		t.Errorf("systemd-analyze verify does not see a key that does not exist: %q", out)
	}
}

// What systemd calls the exposure of a unit, from 0 to 10, is below 2; it is in docs/systemd.md.
func TestSecurity(t *testing.T) {
	for _, unit := range copied(t) {
		out, err := exec.Command("systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=19", unit).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", unit, err, out)
			continue
		}
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		t.Log(lines[len(lines)-1])
	}
}
