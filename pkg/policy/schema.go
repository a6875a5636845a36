package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// SchemaID is what the schema calls itself. It is a name and no address:
// whoever needs the schema has ipmasq print it.
const SchemaID = "urn:ipmasq:policy:1"

// Schema gives the JSON Schema (draft 2020-12) of a policy file, made of the
// tables that decode one. It accepts what the parser accepts. What it accepts
// and the parser refuses are mistakes that no single value shows: names that
// nothing has, ports that overlap, families that do not meet.
func Schema() ([]byte, error) {
	root := objectOf(rootFields())
	root.Schema = "https://json-schema.org/draft/2020-12/schema"
	root.ID = SchemaID
	root.Title = "ipmasq policy"
	root.Description = "What a NAT gateway does. The language is described in docs/policy.md of ipmasq."
	root.Defs = definitions()
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(root); err != nil {
		return nil, fmt.Errorf("write the schema of policies: %w", err)
	}
	return text.Bytes(), nil
}

// schema is one JSON Schema, as far as policies need it.
type schema struct {
	Schema               string              `json:"$schema,omitempty"`
	ID                   string              `json:"$id,omitempty"`
	Ref                  string              `json:"$ref,omitempty"`
	Title                string              `json:"title,omitempty"`
	Description          string              `json:"description,omitempty"`
	Default              any                 `json:"default,omitempty"`
	Type                 any                 `json:"type,omitempty"` // string or []string
	Const                any                 `json:"const,omitempty"`
	Enum                 []string            `json:"enum,omitempty"`
	Pattern              string              `json:"pattern,omitempty"`
	MinLength            int                 `json:"minLength,omitempty"`
	Minimum              *uint32             `json:"minimum,omitempty"`
	Maximum              *uint32             `json:"maximum,omitempty"`
	Items                *schema             `json:"items,omitempty"`
	MinItems             int                 `json:"minItems,omitempty"`
	MaxItems             int                 `json:"maxItems,omitempty"`
	UniqueItems          bool                `json:"uniqueItems,omitempty"`
	Required             []string            `json:"required,omitempty"`
	DependentRequired    map[string][]string `json:"dependentRequired,omitempty"`
	MinProperties        int                 `json:"minProperties,omitempty"`
	PropertyNames        *schema             `json:"propertyNames,omitempty"`
	Properties           properties          `json:"properties,omitempty"`
	PatternProperties    properties          `json:"patternProperties,omitempty"`
	AdditionalProperties any                 `json:"additionalProperties,omitempty"` // false or *schema
	AnyOf                []*schema           `json:"anyOf,omitempty"`
	Not                  *schema             `json:"not,omitempty"`
	If                   *schema             `json:"if,omitempty"`
	Then                 *schema             `json:"then,omitempty"`
	Else                 *schema             `json:"else,omitempty"`
	Defs                 properties          `json:"$defs,omitempty"`
}

// properties keep the order of their table.
type properties []property

type property struct {
	key   string
	value any // *schema or false
}

// MarshalJSON writes an object.
func (p properties) MarshalJSON() ([]byte, error) {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	text.WriteByte('{')
	for i, one := range p {
		if i > 0 {
			text.WriteByte(',')
		}
		if err := e.Encode(one.key); err != nil {
			return nil, err
		}
		text.WriteByte(':')
		if err := e.Encode(one.value); err != nil {
			return nil, err
		}
	}
	text.WriteByte('}')
	return text.Bytes(), nil
}

// objectOf is the mapping that a table decodes.
func objectOf[T any](table []field[T]) *schema {
	s := &schema{Type: "object", AdditionalProperties: false}
	for i := range table {
		f := &table[i]
		if f.decode == nil {
			continue // refused; the parser says why
		}
		value := f.value()
		value.Description = f.about
		value.Default = f.preset
		s.Properties = append(s.Properties, property{f.key, value})
		if f.must {
			s.Required = append(s.Required, f.key)
		}
		if f.needs != "" {
			if s.DependentRequired == nil {
				s.DependentRequired = map[string][]string{}
			}
			s.DependentRequired[f.key] = []string{f.needs}
		}
	}
	return s
}

// objectShape is objectOf where a field of another table takes the mapping. It
// is empty nowhere: a mapping without keys says nothing.
func objectShape[T any](table []field[T]) func() *schema {
	return func() *schema { return filled(objectOf(table)) }
}

func filled(s *schema) *schema {
	s.MinProperties = 1
	return s
}

// titled gives what an editor calls a value.
func titled(title string, s *schema) *schema {
	s.Title = title
	return s
}

// definitions are what is used in several places, and what has a name in the
// documentation.
func definitions() properties {
	masquerade, snat := objectOf(masqueradeFields()), objectOf(snatFields())
	return properties{
		{"zone", titled("a zone", zoneShape())},
		{"masquerade", titled("a masquerade entry", masquerade)},
		{"snat", titled("a snat entry", snat)},
		{"one_to_one", titled("a one_to_one entry", objectOf(oneToOneFields()))},
		{"port_forward", titled("a port_forward entry", portForwardShape())},
		{"redirect", titled("a redirect entry", objectOf(redirectFields()))},
		{"forward_rule", titled("a rule of forward", objectOf(ruleFields(forwardRules)))},
		{"input_rule", titled("a rule of input", objectOf(ruleFields(inputRules)))},
		{"log", titled("a log", anyOf(booleanShape(), filled(objectOf(logFields()))))},
		{"rate", titled("a rate", anyOf(rateTextShape(), objectOf(rateFields())))},
		{"max_connections", titled("limits of open connections", filled(objectOf(limitsFields())))},
		{"timeouts", titled("timeouts of an entry", without("generic", filled(objectOf(timeoutsFields()))))},
		{"all_timeouts", titled("timeouts of all flows", filled(objectOf(timeoutsFields())))},
		{"helpers", titled("helpers", helperList())},
		{"protocol", titled("a protocol", protocolValue())},
		{"port", titled("a port, or a range as 8000-8010", portValue())},
		{"icmp_type", titled("an ICMP type", &schema{Enum: icmpTypeNames()})},
		{"name", titled("a name", nameValue())},
		{"zone_name", titled("the name of a zone", referenceValue())},
		{"interface", titled("an interface, or a prefix of names as \"br-*\"", interfaceValue())},
		{"address", titled("an address, a prefix or a range", addressValue())},
		{"set_name", titled("a set, as \"@name\"", setNameValue())},
		{"target", titled("an address, address:port or \"[address]:port\"", targetValue())},
		{"service", titled("a service, as tcp/25", serviceValue())},
		{"duration", titled("a duration, as 30s, 5m or 2h4m", durationValue())},
		{"mark", titled("a mark, as 0x1 or 0x1/0xff", markValue(0))},
	}
}

// without takes a property out.
func without(key string, s *schema) *schema {
	for i, p := range s.Properties {
		if p.key == key {
			s.Properties = append(s.Properties[:i:i], s.Properties[i+1:]...)
			break
		}
	}
	return s
}
