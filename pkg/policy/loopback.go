package policy

import "slices"

// Loopback says whether all of a range are loopback addresses.
func (a Address) Loopback() bool { return a.Set == "" && a.Low.IsLoopback() && a.High.IsLoopback() }

// OfGateway says whether the entry is for the gateway's own connections alone:
// nobody else can send to a loopback address.
func (f *PortForward) OfGateway() bool {
	return len(f.Address) > 0 && !slices.ContainsFunc(f.Address, func(a Address) bool { return !a.Loopback() })
}
