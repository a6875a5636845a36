package policy

// narrowing is where the four address lists go that narrow an entry.
type narrowing struct {
	sources, exceptSources, destinations, exceptDestinations *[]Address
}

// narrowFields are the keys of the address lists.
func narrowFields[T any](of func(*T) narrowing) []field[T] {
	return []field[T]{
		{key: "sources", about: "only from these addresses", value: addressesShape,
			takes: addressesTake, decode: func(d *decoder, n *node, to *T) {
				*of(to).sources = d.addresses(n, setNames)
			}},
		{key: "except_sources", about: "not from these addresses", value: addressesShape,
			takes: addressesTake, decode: func(d *decoder, n *node, to *T) {
				*of(to).exceptSources = d.addresses(n, setNames)
			}},
		{key: "destinations", about: "only on the way to these addresses", value: destinationsShape,
			takes: addressesTake, decode: func(d *decoder, n *node, to *T) {
				*of(to).destinations = d.addresses(n, setNames|gatewayWord)
			}},
		{key: "except_destinations", about: "not on the way to these addresses", value: destinationsShape,
			takes: addressesTake, decode: func(d *decoder, n *node, to *T) {
				*of(to).exceptDestinations = d.addresses(n, setNames|gatewayWord)
			}},
	}
}
