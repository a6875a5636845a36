package conntrack

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"golang.org/x/sys/unix"
)

func TestHalves(t *testing.T) {
	for _, x := range []struct {
		name      string
		ask, want []question
	}{
		{"all", []question{{}}, []question{{status: StatusSNAT, statusMask: StatusSNAT}, {statusMask: StatusSNAT}}},
		{"marked, assured", []question{{mark: 1, markMask: 3, status: StatusAssured, statusMask: StatusAssured}}, []question{
			{mark: 1, markMask: 3, status: StatusAssured | StatusSNAT, statusMask: StatusAssured | StatusSNAT},
			{mark: 1, markMask: 3, status: StatusAssured, statusMask: StatusAssured | StatusSNAT},
		}},
		{"a half", []question{{statusMask: StatusSNAT}}, []question{{statusMask: StatusSNAT}}},
		{"two", []question{{family: IPv4}, {family: IPv6}}, []question{{family: IPv4}, {family: IPv6}}},
		{"none", nil, nil},
	} {
		if got := halves(x.ask); !slices.Equal(got, x.want) {
			t.Errorf("%s: asked %+v\nwant %+v", x.name, got, x.want)
		}
	}
}

// standing puts connections of UDP into the table that have seen no answer yet;
// the source of every other one is translated. It gives their originals.
func standing(t *testing.T, c *Conn, n int) []Flow {
	t.Helper()
	list := make([]Flow, n)
	for i := range list {
		f := flow(unix.IPPROTO_UDP, "192.168.1.10", "198.51.100.1")
		f.Original.Source = netip.AddrFrom4([4]byte{192, 168, byte(i >> 8), byte(i)})
		f.Reply = reverse(f.Original)
		source := ""
		if i%2 == 0 {
			source = "203.0.113.7"
			f.Original.SourcePort = uint16(1024 + i) // or the kernel looks for a port that is free
			f.Reply = reverse(f.Original)
		}
		create(t, c, f, source, "")
		list[i] = f
	}
	return list
}

// proceed tells the kernel of connections that they have come further.
func proceed(c *nfnetlink.Conn, list []Flow, status Status, mark uint32) error {
	r := &nfnetlink.Requests{}
	for i := range list {
		r.Message(ctNew, 0, unix.AF_INET)
		encodeTuple(&r.Encoder, ctaTupleOriginal, list[i].Protocol, &list[i].Original)
		r.Uint32(ctaStatus, uint32(status))
		r.Uint32(ctaMark, mark)
		r.Uint32(ctaTimeout, uint32(time.Hour/time.Second))
	}
	var refused error
	err := c.Do(r, func(e *nfnetlink.Error) { refused = e })
	if err == nil {
		err = refused
	}
	return err
}

// Connections come, go and change all the time, and each that stands is listed
// once, in whichever half: also where the kernel does not know of halves.
func TestHalvesWhileTheTableChanges(t *testing.T) {
	const n, others, steps = 3000, 400, 60
	for name, encode := range map[string]func(*question, *nfnetlink.Encoder){
		"of a kernel that filters": (*question).encode,
		"of one that does not":     func(*question, *nfnetlink.Encoder) {},
	} {
		t.Run(name, func(t *testing.T) {
			c := open(t)
			all := standing(t, c, n)
			stands := map[netip.AddrPort]int{}
			for i := range all {
				stands[netip.AddrPortFrom(all[i].Original.Source, all[i].Original.SourcePort)] = i
			}
			conn, err := Open()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			rounds := 0
			end := beside(t, func(round int) error {
				rounds = round
				some := all[round%steps*n/steps : (round%steps+1)*n/steps]
				status := StatusConfirmed | StatusSeenReply
				if round >= steps { // the kernel takes nothing back
					status |= StatusAssured
				}
				if err := proceed(conn.conn, some, status, uint32(round)); err != nil {
					return err
				}
				if err := fill(round*others, others); err != nil {
					return err
				}
				var gone []Flow
				err := conn.List(&Filter{Sources: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, func(f *Flow) bool {
					gone = append(gone, *f)
					return true
				})
				if err == nil {
					_, err = conn.DeleteAll(gone)
				}
				return err
			})
			changed := false
			for range 40 {
				seen := make([]int, n)
				stages := map[Status]bool{}
				err := c.list(halves([]question{{}}), encode, &Filter{}, func(f *Flow) bool {
					if i, ok := stands[netip.AddrPortFrom(f.Original.Source, f.Original.SourcePort)]; ok {
						seen[i]++
						stages[f.Status&(StatusSeenReply|StatusAssured)] = true
						if f.SNAT() != (i%2 == 0) {
							t.Errorf("%s: its source is translated: %v", f, f.SNAT())
						}
					}
					return true
				})
				if err != nil {
					t.Fatal(err)
				}
				changed = changed || len(stages) > 1
				for i, k := range seen {
					if k != 1 {
						t.Errorf("%s is listed %d times", all[i], k)
					}
				}
				if t.Failed() {
					break
				}
			}
			end()
			t.Log(rounds, "rounds")
			if !changed || rounds == 0 {
				t.Errorf("nothing changed while the table was listed, in %d rounds", rounds)
			}
		})
	}
}
