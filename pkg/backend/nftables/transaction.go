//go:build linux

package nftables

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"golang.org/x/sys/unix"
)

// transaction is a list of changes as one batch, with what each message is
// about.
type transaction struct {
	batch   nfnetlink.Batch
	changes *plan.Changes
	subject []subject
	// flags are what the table has from its beginning; counted is what it
	// counted before it was made anew.
	flags   uint32
	counted *plan.Snapshot
}

// subject is what a message is about. For a message with elements, side and
// set say whose, and elements which.
type subject struct {
	object   string
	origin   ruleset.Origin
	needs    string   // what the kernel lacks where it finds no such thing
	cards    []string // devices that the kernel asks whether they take flows
	side     *plan.Snapshot
	set      *plan.Set
	elements []uint32 // nil: from first on, all
	first    int
}

func newTransaction(c *plan.Changes, o ownership) *transaction {
	t := &transaction{changes: c}
	anew := o.anew || asleep(c.From)
	if !anew {
		t.flags = o.flags
	}
	t.table(unix.NFT_MSG_NEWTABLE)
	if c.To.Empty() || anew {
		t.table(unix.NFT_MSG_DELTABLE)
	}
	if c.To.Empty() {
		return t
	}
	if anew {
		// The kernel takes no new base chains for a table that it wakes up.
		t.flags = o.flags
		t.table(unix.NFT_MSG_NEWTABLE)
		t.changes, t.counted = plan.Diff(&plan.Snapshot{}, c.To), c.From
	}
	chains := t.withUsers()
	t.emptied(chains)
	t.removed(chains)
	t.added(chains)
	t.filled(chains)
	return t
}

// asleep says whether somebody put our table to sleep: it is made anew then.
func asleep(s *plan.Snapshot) bool {
	return slices.ContainsFunc(s.Chains, func(c plan.Chain) bool { return strings.HasSuffix(c.Attributes, foreignMark) })
}

// table makes or deletes our table. To make it where it is changes nothing.
func (t *transaction) table(msg int) {
	flags := uint16(0)
	if msg == unix.NFT_MSG_NEWTABLE {
		flags = unix.NLM_F_CREATE
	}
	t.begin("table "+Table, ruleset.Origin{}, msg, flags)
	t.batch.String(unix.NFTA_TABLE_NAME, Table)
	// Without flags those of a table that is there stay, which may be what an
	// owner has left behind.
	if msg == unix.NFT_MSG_NEWTABLE && t.flags != 0 {
		t.batch.Uint32(unix.NFTA_TABLE_FLAGS, t.flags)
	}
}

func (t *transaction) begin(object string, origin ruleset.Origin, msg int, flags uint16) *subject {
	t.batch.Message(msg, flags, unix.NFPROTO_INET)
	t.subject = append(t.subject, subject{object: object, origin: origin})
	return &t.subject[len(t.subject)-1]
}

// withUsers gives the chains that change, with those that stay but use what is
// made anew: their rules must let go of the old one. Those that use what goes
// come too, so that the kernel's refusal names the rule that needs it.
func (t *transaction) withUsers() []plan.ChainChange {
	chains := append([]plan.ChainChange(nil), t.changes.Chains...)
	changed := map[string]bool{}
	var gone [][]byte
	for _, c := range chains {
		if c.To >= 0 {
			changed[t.changes.To.Chains[c.To].Name] = true
		}
		if c.Kind == plan.Remove {
			gone = append(gone, []byte(t.changes.From.Chains[c.From].Name+"\x00"))
		}
	}
	for _, s := range t.changes.Sets {
		if s.Kind == plan.Replace || s.Kind == plan.Remove {
			gone = append(gone, []byte(t.changes.From.Sets[s.From].Name+"\x00"))
		}
	}
	for _, c := range t.changes.Counters {
		if c.Kind == plan.Remove {
			gone = append(gone, []byte(t.changes.From.Counters[c.From].Name+"\x00"))
		}
	}
	for _, o := range t.changes.Objects {
		if o.Kind != plan.Add {
			gone = append(gone, []byte(t.changes.From.Objects[o.From].Name+"\x00"))
		}
	}
	if len(gone) == 0 {
		return chains
	}
	from := map[string]int{}
	for i, c := range t.changes.From.Chains {
		from[c.Name] = i
	}
	for i := range t.changes.To.Chains {
		c := &t.changes.To.Chains[i]
		if !changed[c.Name] && slices.ContainsFunc(c.Rules, func(r plan.Rule) bool { return usesAny(r.Body, gone) }) {
			chains = append(chains, plan.ChainChange{Kind: plan.Keep, From: from[c.Name], To: i})
		}
	}
	return chains
}

// usesAny says whether a rule names any of the objects. A name that ends in
// one of theirs counts too; that costs a flush and nothing else.
func usesAny(body []byte, names [][]byte) bool {
	return slices.ContainsFunc(names, func(n []byte) bool { return bytes.Contains(body, n) })
}

// emptied flushes the chains that change and takes elements out of sets that
// stay, so that nothing refers any more to what goes.
func (t *transaction) emptied(chains []plan.ChainChange) {
	for _, c := range chains {
		if c.From < 0 {
			continue
		}
		name := t.changes.From.Chains[c.From].Name
		t.begin("chain "+name, ruleset.Origin{}, unix.NFT_MSG_DELRULE, 0)
		t.batch.String(unix.NFTA_RULE_TABLE, Table)
		t.batch.String(unix.NFTA_RULE_CHAIN, name)
	}
	for i := range t.changes.Sets {
		if s := &t.changes.Sets[i]; s.Kind == plan.Keep && len(s.Removed) > 0 {
			t.elements(unix.NFT_MSG_DELSETELEM, 0, t.changes.From, t.changes.From.Sets[s.From], s.Removed, nil)
		}
	}
}

// removed takes out sets, chains, counters and other objects. Sets go first: a verdict map
// holds on to the chains that it names.
func (t *transaction) removed(chains []plan.ChainChange) {
	for _, s := range t.changes.Sets {
		if s.Kind == plan.Remove || s.Kind == plan.Replace {
			set := t.changes.From.Sets[s.From]
			if anonymous(set) {
				continue
			}
			t.begin("set "+set.Name, set.Origin, unix.NFT_MSG_DELSET, 0)
			t.batch.String(unix.NFTA_SET_TABLE, Table)
			t.batch.String(unix.NFTA_SET_NAME, set.Name)
		}
	}
	for _, c := range chains {
		if c.Kind == plan.Remove || c.Kind == plan.Replace {
			name := t.changes.From.Chains[c.From].Name
			t.begin("chain "+name, ruleset.Origin{}, unix.NFT_MSG_DELCHAIN, 0)
			t.batch.String(unix.NFTA_CHAIN_TABLE, Table)
			t.batch.String(unix.NFTA_CHAIN_NAME, name)
		}
	}
	for _, c := range t.changes.Counters {
		if c.Kind == plan.Remove {
			t.counter(t.changes.From.Counters[c.From], unix.NFT_MSG_DELOBJ, 0)
		}
	}
	for _, o := range t.changes.Objects {
		if o.Kind != plan.Add {
			t.object(&t.changes.From.Objects[o.From], false)
		}
	}
}

// added makes chains, counters, other objects and sets, still empty.
func (t *transaction) added(chains []plan.ChainChange) {
	for _, c := range chains {
		if c.Kind == plan.Add || c.Kind == plan.Replace {
			chain := &t.changes.To.Chains[c.To]
			t.begin("chain "+chain.Name, chain.Origin, unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE)
			t.batch.String(unix.NFTA_CHAIN_TABLE, Table)
			t.batch.String(unix.NFTA_CHAIN_NAME, chain.Name)
			t.batch.Raw([]byte(chain.Attributes))
		}
	}
	for _, c := range t.changes.Counters {
		if c.Kind == plan.Add {
			t.counter(t.changes.To.Counters[c.To], unix.NFT_MSG_NEWOBJ, unix.NLM_F_CREATE)
		}
	}
	for _, o := range t.changes.Objects {
		if o.Kind != plan.Remove {
			t.object(&t.changes.To.Objects[o.To], true)
		}
	}
	for i, s := range t.changes.Sets {
		if s.Kind == plan.Add || s.Kind == plan.Replace {
			set := t.changes.To.Sets[s.To]
			t.begin("set "+set.Name, set.Origin, unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE)
			t.batch.String(unix.NFTA_SET_TABLE, Table)
			t.batch.String(unix.NFTA_SET_NAME, set.Name)
			t.batch.Raw([]byte(set.Attributes))
			t.batch.Uint32(unix.NFTA_SET_ID, uint32(i+1))
		}
	}
}

// anonymous says whether a set is part of a rule, as somebody else's may be,
// and goes with it.
func anonymous(s *plan.Set) bool {
	spec := parseSpec([]byte(s.Attributes))
	return spec.flags&unix.NFT_SET_ANONYMOUS != 0
}

func (t *transaction) counter(c plan.Counter, msg int, flags uint16) {
	t.begin("counter "+c.Name, c.Origin, msg, flags)
	t.batch.String(unix.NFTA_OBJ_TABLE, Table)
	t.batch.String(unix.NFTA_OBJ_NAME, c.Name)
	t.batch.Uint32(unix.NFTA_OBJ_TYPE, unix.NFT_OBJECT_COUNTER)
	if msg == unix.NFT_MSG_NEWOBJ {
		data := t.batch.Open(unix.NFTA_OBJ_DATA)
		if before, found := t.countedBy(c.Name); found {
			t.batch.Uint64(unix.NFTA_COUNTER_BYTES, before.Bytes)
			t.batch.Uint64(unix.NFTA_COUNTER_PACKETS, before.Packets)
		}
		t.batch.Close(data)
		if c.Origin.Entry != "" {
			t.batch.Bytes(nftaObjUserdata, appendComment(nil, commentRule, c.Origin.Entry))
		}
	}
}

// countedBy gives what a counter had counted in a table that is made anew.
func (t *transaction) countedBy(name string) (plan.Counter, bool) {
	if t.counted == nil {
		return plan.Counter{}, false
	}
	i := slices.IndexFunc(t.counted.Counters, func(c plan.Counter) bool { return c.Name == name })
	if i < 0 {
		return plan.Counter{}, false
	}
	return t.counted.Counters[i], true
}

// before gives the set of which the counters go on: the one that this takes the
// place of.
func (t *transaction) before(s plan.SetChange) *plan.Set {
	switch {
	case s.Kind == plan.Replace:
		return t.changes.From.Sets[s.From]
	case t.counted == nil:
		return nil
	}
	name := t.changes.To.Sets[s.To].Name
	i := slices.IndexFunc(t.counted.Sets, func(old *plan.Set) bool { return old.Name == name })
	if i < 0 {
		return nil
	}
	return t.counted.Sets[i]
}

// filled puts elements into sets and rules into chains.
func (t *transaction) filled(chains []plan.ChainChange) {
	for i := range t.changes.Sets {
		s := &t.changes.Sets[i]
		if s.Kind == plan.Remove {
			continue
		}
		set := t.changes.To.Sets[s.To]
		added := s.Added
		if s.Kind == plan.Keep && len(added) == 0 || set.Elements.Len() == 0 {
			continue
		}
		// The counters of a set that is made anew go on.
		var counted *plan.Elements
		if old := t.before(*s); old != nil && old.Elements.KeyLen == set.Elements.KeyLen {
			counted = &old.Elements
		}
		// Exclusively, or an element that is there twice would be taken.
		t.elements(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE|unix.NLM_F_EXCL, t.changes.To, set, added, counted)
	}
	for _, c := range chains {
		if c.To < 0 {
			continue
		}
		chain := &t.changes.To.Chains[c.To]
		for i := range chain.Rules {
			r := &chain.Rules[i]
			s := t.begin("a rule of chain "+chain.Name, r.Origin, unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND)
			if slices.ContainsFunc(t.changes.To.Objects, func(o plan.Object) bool { return offloads(r.Body, &o) }) {
				s.needs = needsFlowtables
			}
			t.batch.String(unix.NFTA_RULE_TABLE, Table)
			t.batch.String(unix.NFTA_RULE_CHAIN, chain.Name)
			n := t.batch.Open(unix.NFTA_RULE_EXPRESSIONS)
			t.batch.Raw(r.Body)
			t.batch.Close(n)
			if r.Origin.Entry != "" {
				t.batch.Bytes(unix.NFTA_RULE_USERDATA, appendComment(nil, commentRule, r.Origin.Entry))
			}
		}
	}
}

// explain says which entry of the policy an error of the kernel is about. Of
// several errors the first counts: the others follow from it.
func (t *transaction) explain(err error) error {
	var refused *nfnetlink.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, nfnetlink.ErrStale):
		return backend.ErrStale
	case !errors.As(err, &refused):
		return err
	}
	if refused.Errno == unix.EPERM || refused.Message < 0 || refused.Message >= len(t.subject) {
		return fmt.Errorf("change the table inet %s: %w", Table, refused)
	}
	s := t.subject[refused.Message]
	out := &backend.Refused{Object: s.object, Origin: s.origin, Err: s.lacking(t.batch.MessageBytes(refused.Message), refused)}
	if s.set != nil {
		if i := s.elementAt(t.batch.MessageBytes(refused.Message), refused.Offset); i >= 0 {
			out.Origin = s.side.ElementOrigin(s.set, i)
			spec := parseSpec([]byte(s.set.Attributes))
			out.Object = fmt.Sprintf("element %s of %s", spec.elementText(s.set.Elements.At(i)), s.object)
		}
	}
	return out
}

// elementAt finds the element whose attribute stands at offset of a message.
func (s *subject) elementAt(message []byte, offset int) int {
	at := unix.NLMSG_HDRLEN + 4
	for at+unix.NLA_HDRLEN <= len(message) {
		size := int(binary.NativeEndian.Uint16(message[at:]))
		if binary.NativeEndian.Uint16(message[at+2:])&^unix.NLA_F_NESTED == unix.NFTA_SET_ELEM_LIST_ELEMENTS {
			break
		}
		at += (size + 3) &^ 3
	}
	index := -1
	for at += unix.NLA_HDRLEN; at+unix.NLA_HDRLEN <= len(message) && at <= offset; {
		size := int(binary.NativeEndian.Uint16(message[at:]))
		if el := parseElement(message[at+unix.NLA_HDRLEN : at+size]); !el.end {
			index++
		}
		at += (size + 3) &^ 3
	}
	switch {
	case index < 0:
		return -1
	case s.elements != nil:
		return int(s.elements[s.first+index])
	}
	return s.first + index
}
