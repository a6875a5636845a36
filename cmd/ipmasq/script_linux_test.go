package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/backend/nftables"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/test/lab"
	"github.com/rogpeppe/go-internal/testscript"
)

// programs are what scripts can run besides what is on PATH.
var programs = map[string]func(){
	"ipmasq":       main,
	"netadmin":     withNetAdmin,
	"user":         asUser,
	"gw":           inNetNS,
	"nocaps":       withoutCapabilities,
	"nonamespaces": withoutNamespaces,
	"withetc":      withEtc,
	"tty":          onTerminal,
}

func TestMain(m *testing.M) {
	if programs[filepath.Base(os.Args[0])] == nil {
		// What lab.Main(m) does; but that would exit past testscript's own end.
		if err := lab.Enter(); err != nil {
			os.Setenv("IPMASQ_LAB_REFUSED", err.Error())
		}
	}
	testscript.Main(m, programs)
}

// The scripts say what ipmasq promises to people and to other programs. They
// have, besides what testscript has,
//
//	code N PROGRAM ARG...    run a program; it must exit with N
//	gateway                  make a host with eth0 and eth1, in $NETNS, and $STATE_DIRECTORY
//	gw PROGRAM ARG...        run a program on that host
//	nocaps PROGRAM ARG...    run a program without any capability
//	nonamespaces PROGRAM ... run a program that may not make network namespaces
//	netadmin PROGRAM ARG...  run a program as root with CAP_NET_ADMIN and nothing else
//	user ARG...              run ipmasq as user 12345, with CAP_NET_ADMIN and nothing else
//	withetc DIR PROGRAM ...  run a program that sees DIR as /etc/ipmasq
//	tty PROGRAM ARG...       run a program whose standard output is a terminal
//	generation NAME          set $NAME to the number of the kernel's ruleset
//	json PATH WANT           compare a value in the last answer; keys lists an object's
//	guards N                 N processes guard the policy that waits, now or soon
//	other-boot               the state is of the boot before
//	await-confirmed          wait until no policy waits to be confirmed
//	many N FILE              write a policy with N port forwards
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		WorkdirRoot:         t.TempDir(), // testscript forgets its own where -run leaves scripts out
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Condition: func(name string) (bool, error) {
			if name != "users" {
				return false, fmt.Errorf("no such condition")
			}
			return haveUsers(), nil
		},
		Setup: func(env *testscript.Env) error {
			env.Values["t"] = env.T()
			env.Setenv("STATE_DIRECTORY", filepath.Join(env.WorkDir, "state"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"await-confirmed": scriptAwaitConfirmed, "code": scriptCode, "gateway": scriptGateway, "guards": scriptGuards,
			"generation": scriptGeneration, "json": scriptJSON, "many": scriptMany, "other-boot": scriptOtherBoot,
		},
	})
}

func usage(ts *testscript.TestScript, neg, ok bool, text string) {
	if neg || !ok {
		ts.Fatalf("usage: %s", text)
	}
}

func scriptCode(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) > 1, "code N PROGRAM ARG...")
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d\n[stdout]\n%s[stderr]\n%s", got, want, ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}

func scriptGateway(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 0, "gateway")
	t, ok := ts.Value("t").(lab.TB)
	if !ok {
		ts.Fatalf("the script's T is no testing.TB")
	}
	l := lab.New(t)
	lab.Require(t, lab.NFTables(), lab.Binary("nft"))
	gw := l.Host("gw")
	gw.Stub("eth0")
	gw.Stub("eth1")
	ts.Setenv("NETNS", gw.NetNS())
}

func scriptGeneration(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 1, "generation NAME")
	ns, err := link.OpenNetNS(ts.Getenv("NETNS"))
	ts.Check(err)
	defer ns.Close()
	g, err := nftables.New(ns.Do).Probe(context.Background())
	ts.Check(err)
	ts.Setenv(args[0], fmt.Sprint(g))
}

func scriptMany(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 2, "many N FILE")
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	var b bytes.Buffer
	b.WriteString("version: 1\nzones:\n  lan: {interfaces: [eth1], networks: [192.168.1.0/24]}\n  wan: {interfaces: [eth0]}\nport_forward:\n")
	for i := range n {
		fmt.Fprintf(&b, "  - {name: p%d, from: wan, protocol: tcp, ports: %d, to: 192.168.1.10}\n", i, 1000+i)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), b.Bytes(), 0o644))
}

// scriptJSON follows a path such as entries.0.place. The last part may be keys.
func scriptJSON(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 2, "json PATH WANT")
	var value any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &value))
	for part := range strings.SplitSeq(args[0], ".") {
		switch v := value.(type) {
		case map[string]any:
			if part == "keys" {
				var keys []string
				for k := range v {
					keys = append(keys, k)
				}
				slices.Sort(keys)
				value = strings.Join(keys, " ")
				continue
			}
			next, ok := v[part]
			if !ok {
				ts.Fatalf("%s: there is no %s", args[0], part)
			}
			value = next
		case []any:
			if part == "length" {
				value = len(v)
				continue
			}
			i, err := strconv.Atoi(part)
			ts.Check(err)
			if i >= len(v) {
				ts.Fatalf("%s: there are %d elements", args[0], len(v))
			}
			value = v[i]
		default:
			ts.Fatalf("%s: %s is in neither an object nor a list", args[0], part)
		}
	}
	got, ok := value.(string)
	if !ok {
		text, err := json.Marshal(value)
		ts.Check(err)
		got = string(text)
	}
	if got != args[1] {
		ts.Fatalf("%s is %s, want %s", args[0], got, args[1])
	}
}
