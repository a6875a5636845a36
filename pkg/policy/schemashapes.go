package policy

import "math"

// The shapes of values, as the tables of fields name them. Each is made anew,
// since a field adds its description.

func anyOf(list ...*schema) *schema { return &schema{AnyOf: list} }

// ref is one of the definitions.
func ref(name string) *schema { return &schema{Ref: "#/$defs/" + name} }

// many is one value, or a list that is not empty.
func many(one func() *schema) *schema {
	return anyOf(one(), &schema{Type: "array", Items: one(), MinItems: 1})
}

// distinct is many where an item that is there twice is refused. It is not for
// names: [1, 0x1] are two names, and one number to a schema.
func distinct(one func() *schema) *schema {
	s := many(one)
	s.AnyOf[1].UniqueItems = true
	return s
}

func refTo(name string) func() *schema { return func() *schema { return ref(name) } }

// sectionOf is a list of entries, which may be empty, or an entry alone.
func sectionOf(name string) func() *schema {
	return func() *schema { return anyOf(&schema{Type: "array", Items: ref(name)}, ref(name)) }
}

func integerOne() *schema     { return &schema{Type: "integer", Const: 1} }
func booleanShape() *schema   { return &schema{Type: "boolean"} }
func nameShape() *schema      { return ref("name") }
func rateShape() *schema      { return ref("rate") }
func logShape() *schema       { return ref("log") }
func limitsShape() *schema    { return ref("max_connections") }
func timeoutsShape() *schema  { return ref("timeouts") }
func helpersShape() *schema   { return ref("helpers") }
func markShape() *schema      { return ref("mark") }
func durationShape() *schema  { return ref("duration") }
func portShape() *schema      { return ref("port") }
func portsShape() *schema     { return distinct(portShape) }
func icmpTypesShape() *schema { return distinct(refTo("icmp_type")) }

func allTimeoutsShape() *schema { return ref("all_timeouts") }

func familyShape() *schema        { return &schema{Enum: familyWords()} }
func actionShape() *schema        { return &schema{Enum: actionWords()} }
func portSelectionShape() *schema { return &schema{Enum: portSelections()} }
func distributionShape() *schema  { return &schema{Enum: distributions()} }
func hairpinSourceShape() *schema { return &schema{Enum: hairpinSources()} }
func levelShape() *schema         { return &schema{Enum: logLevels()} }
func perShape() *schema           { return &schema{Enum: ratePers()} }
func backendShape() *schema       { return &schema{Enum: backends()} }
func dockerShape() *schema        { return &schema{Enum: []string{dockerAccept}} }

func toPortShape() *schema       { return number(1, math.MaxUint16) }
func portsPerHostShape() *schema { return number(1, math.MaxUint16) }
func groupShape() *schema        { return number(0, math.MaxUint16) }
func positiveShape() *schema     { return number(1, math.MaxUint32) }
func tableShape() *schema        { return number(1, math.MaxUint32) }
func conntrackMaxShape() *schema { return number(1, math.MaxInt32) }

func markNotZeroShape() *schema { return markValue(1) }

// fileShape is the name of a file, which may look like a number.
func fileShape() *schema {
	s := text("")
	s.MinLength = 1
	return s
}

func zonesShape() *schema {
	return &schema{Type: "object", PropertyNames: ref("name"), AdditionalProperties: ref("zone")}
}

func zoneShape() *schema {
	s := objectOf(zoneFields())
	// One of these says what the zone is.
	s.AnyOf = []*schema{
		{Required: []string{"interfaces"}},
		{Required: []string{"networks"}},
		{Required: []string{"default_route"}, Properties: properties{{"default_route", &schema{Const: true}}}},
	}
	return s
}

func interfacesShape() *schema { return many(refTo("interface")) }

func setsShape() *schema {
	list := many(refTo("address"))
	list.AnyOf[1].MinItems = 0 // a set may be empty
	return &schema{Type: "object", PropertyNames: ref("name"), AdditionalProperties: anyOf(append(list.AnyOf, objectOf(setFileFields()))...)}
}

func forwardShape() *schema { return objectOf(forwardFields(forwardRules)) }
func inputShape() *schema   { return objectOf(forwardFields(inputRules)) }
func gatewayShape() *schema { return objectOf(gatewayFields()) }
func offloadShape() *schema { return objectOf(offloadFields()) }
func hairpinShape() *schema { return anyOf(booleanShape(), filled(objectOf(hairpinFields()))) }
func symmetricShape() *schema {
	return anyOf(booleanShape(), filled(objectOf(symmetricFields())))
}
func conntrackShape() *schema  { return filled(objectOf(conntrackFields())) }
func forwardingShape() *schema { return objectOf(forwardingFields()) }

func ruleListShape(kind ruleKind) func() *schema { return sectionOf(kind.section() + "_rule") }

func zoneRefsShape() *schema {
	return many(func() *schema { return anyOf(&schema{Const: "any"}, ref("zone_name")) })
}

// namedZonesShape is zoneRefsShape without the word any.
func namedZonesShape() *schema { return many(notAny) }

func uplinkRefsShape() *schema { return many(notAny) }

func oneZoneShape() *schema {
	s := many(notAny)
	s.AnyOf[1].MaxItems = 1
	return s
}

func notAny() *schema {
	s := ref("zone_name")
	s.Not = &schema{Const: "any"}
	return s
}

func addressesShape() *schema {
	return many(func() *schema { return anyOf(ref("set_name"), ref("address")) })
}

func destinationsShape() *schema {
	return many(func() *schema { return anyOf(&schema{Const: "gateway"}, ref("set_name"), ref("address")) })
}

func outsideAddressShape() *schema {
	return many(func() *schema { return anyOf(&schema{Const: "any"}, ref("set_name"), ref("address")) })
}

func poolShape() *schema      { return distinct(refTo("address")) }
func nextHopsShape() *schema  { s := distinct(oneAddress); s.AnyOf[1].MaxItems = 2; return s }
func protocolsShape() *schema { return distinct(refTo("protocol")) }

func portProtocolsShape() *schema {
	return distinct(func() *schema { return anyOf(&schema{Enum: portProtocolNames()}, portProtocolNumber()) })
}

func outsidePortsShape() *schema {
	s := portsShape()
	s.AnyOf = append([]*schema{{Const: "all"}}, s.AnyOf...)
	return s
}

func targetsShape() *schema { return distinct(refTo("target")) }

func exposeShape() *schema {
	return distinct(func() *schema { return anyOf(&schema{Const: "all"}, ref("service")) })
}

// reservedPortsShape may be empty: no port is reserved then.
func reservedPortsShape() *schema {
	s := portsShape()
	s.AnyOf[1].MinItems = 0
	return s
}

func mssClampShape() *schema {
	return anyOf(&schema{Const: "pmtu"}, number(leastMSS, mostMSS))
}

func helperList() *schema {
	return distinct(func() *schema {
		ports := &schema{Type: "object", AdditionalProperties: false}
		for _, name := range helperNames() {
			ports.Properties = append(ports.Properties, property{name, portsShape()})
		}
		return anyOf(&schema{Enum: helperNames()}, filled(ports))
	})
}

// portForwardShape asks for a map, or for what stands in place of one.
func portForwardShape() *schema {
	s := objectOf(portForwardFields())
	s.AnyOf = []*schema{{Required: []string{"from"}}, {Required: []string{"address"}}}
	s.If = &schema{Required: []string{"map"}}
	s.Then = &schema{}
	for _, key := range besidesMap() {
		s.Then.Properties = append(s.Then.Properties, property{key, false})
	}
	s.Else = &schema{Required: forwardNeeds()}
	return s
}

func mapShape() *schema {
	inline := filled(&schema{
		Type:                 "object",
		PatternProperties:    properties{{whole(alternatives(portProtocolNames()) + "/" + portsPattern()), ref("target")}},
		AdditionalProperties: false,
	})
	return anyOf(objectOf(mapFileFields()), inline)
}
