package adopt

import (
	"errors"
	"strings"
	"testing"
)

// TestMistakes reads what is torn or foreign: each says the line.
func TestMistakes(t *testing.T) {
	for _, x := range []struct{ name, text, want string }{
		{"no commit", "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j DROP\n", "rules:3: the file ends within the table filter of line 1: there is no COMMIT, so a part is missing"},
		{"torn rule", "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p tcp --dport", "rules:3: the rule ends where --dport needs a value"},
		{"undeclared", "*filter\n-A INPUT -j DROP\nCOMMIT\n", "rules:2: the chain INPUT is not declared in the table filter"},
		{"no such chain", "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j mine\nCOMMIT\n", "rules:3: there is no chain mine in the table filter; it has to be declared before rules lead to it"},
		{"iptables -S", "*filter\n:INPUT ACCEPT [0:0]\n-P INPUT ACCEPT\nCOMMIT\n", `rules:3: "-P INPUT ACCEPT" adds no rule to a chain; give what iptables-save prints`},
		{"two tables", "*filter\n:INPUT ACCEPT [0:0]\n*nat\n", "rules:3: the table nat begins before the table filter of line 1 has its COMMIT"},
		{"quotes", "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -m comment --comment \"torn -j DROP\nCOMMIT\n", `rules:3: a quotation mark is not closed: "-A INPUT -m comment --comment \"torn -j D..."`},
		{"family", "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -s 10.0.0.1 -p ipv6-icmp -j DROP\nCOMMIT\n", "rules:3: 10.0.0.1 is an address of the other family; is this what the other of iptables-save and ip6tables-save printed? --format says so"},
		{"prose", "Dear all,\nplease find my rules.\n", "rules: it is not known what this file holds; import takes what iptables-save, ip6tables-save, `nft -j list ruleset` and `ipset save` print (--format says which it is)"},
		{"nft text", "table inet filter {\n", "rules: it is not known what this file holds"},
		{"empty", "", "rules: it is not known what this file holds"},
		{"torn json", "{\"nftables\": [{\"metainfo\": {\"version\": \"1.0.6\"}},\n{\"table\": {\"fam", "rules:2: the file ends in the middle: a part is missing"},
		{"json without end", "{\"nftables\": [{\"metainfo\": {\"version\": \"1.0.6\"}}\n", "rules:1: the file ends in the middle: a part is missing"},
		{"other json", "{\"tables\": []}", "rules:1: this is not what nft -j list ruleset prints: it begins with {\"nftables\": ["},
		{"bad json", "{\"nftables\": [\n{\"table\" x}]}", "rules:2: this is no JSON: invalid character 'x' after object key"},
		{"commands", "{\"nftables\": [{\"metainfo\": {}},\n{\"add\": {\"table\": {}}}]}", "rules:2: this is a list of commands (add); give what nft -j list ruleset prints"},
		{"rule without chain", "{\"nftables\": [{\"metainfo\": {}},\n{\"rule\": {\"family\": \"ip\", \"table\": \"t\", \"chain\": \"c\", \"expr\": []}}]}", "rules:2: there is no chain c in the table ip t"},
		{"ipset", "create a hash:ip\nadd b 10.0.0.1\n", "rules:2: the set b has not been created"},
		{"only sets", "create a hash:ip\nadd a 10.0.0.1\n", "rules: there are no rules among the files, only sets"},
	} {
		t.Run(x.name, func(t *testing.T) {
			_, err := Import([]Input{{Name: "rules", Text: []byte(x.text)}})
			var m *Mistake
			if !errors.As(err, &m) || !strings.HasPrefix(err.Error(), x.want) {
				t.Errorf("got  %v\nwant %s", err, x.want)
			}
		})
	}
}

// TestTwoOfAKind refuses files that cannot be of one host at once.
func TestTwoOfAKind(t *testing.T) {
	save := []byte("*filter\n:FORWARD DROP [0:0]\nCOMMIT\n")
	nft := []byte(`{"nftables": [{"metainfo": {}}]}`)
	for _, in := range [][]Input{{{Name: "a", Text: save}, {Name: "b", Text: save}}, {{Name: "a", Text: save}, {Name: "b", Text: nft}}} {
		if _, err := Import(in); err == nil {
			t.Errorf("%s and %s were taken together", in[0].Text, in[1].Text)
		}
	}
}
