package ruleset

import "net/netip"

// Docker is what Docker's rules on the host are to let pass too. It is no part of
// our own rules, but for the chains of iptables that lead to ours.
type Docker struct {
	// Passing is sorted, and has nothing twice.
	Passing []Passing
	// Chains are those that Docker has, on the host that it was compiled for.
	Chains []UserChain
}

// UserChain is a chain DOCKER-USER in the table filter of iptables, which Docker
// leaves to users, and asks first.
type UserChain struct {
	Variant string // "iptables-nft" or "iptables-legacy"
	Family  Family
}

// Passing is packets that our own chain forward may accept, told by where they come
// from and go to. It may be wider than what is accepted: our chain judges all of
// them.
type Passing struct {
	Family Family // IPv4 or IPv6
	// In and Out are interfaces, "eth*" all that begin so, "" any.
	In, Out string
	// From and To are addresses; the zero prefix is any.
	From, To netip.Prefix
	// Answers says that these are only what belongs to flows of the other
	// direction.
	Answers bool
}
