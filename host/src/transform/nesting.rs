//! How deep the parts of a component stand within each other, measured by a loop before anything else reads them.
//!
//! The compiler and the encoder read a type within a type by calling themselves, and a stack that runs out ends the process; and the time that
//! they take for components within components grows with the square of the depth. No toolchain makes either deep.

use std::ops::Range;

use wasmparser::{BinaryReader, BinaryReaderError, ComponentType, ComponentTypeDeclaration, Parser, Payload};

use super::Error;

/// Levels of components and modules within each other, and of component and instance types within each other. Composed components have three.
const DEPTH_MAX: usize = 32;

/// The first byte of a component type and of an instance type, the only ones that hold declarations of other types.
const HOLDS_DECLARATIONS: [u8; 2] = [0x41, 0x42];
/// The first byte of a declaration that is a type.
const DECLARES_TYPE: u8 = 0x01;

/// Refuses a component that is nested deeper than any toolchain makes them.
pub(super) fn check(component: &[u8]) -> Result<(), Error> {
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(damaged)? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth = deeper(depth)?,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentTypeSection(section) => check_types(component, section.range())?,
            #[allow(clippy::wildcard_enum_match_arm, reason = "sections without types of components")]
            _ => {}
        }
    }
    Ok(())
}

fn check_types(component: &[u8], section: Range<usize>) -> Result<(), Error> {
    let start = section.start;
    let mut reader = BinaryReader::new(component.get(section).unwrap_or_default(), start);
    // How many types or declarations are still to come, on each level.
    let mut missing = vec![reader.read_var_u32().map_err(damaged)?];
    while let Some(left) = missing.pop() {
        let Some(left) = left.checked_sub(1) else { continue };
        missing.push(left);
        if let Some(declarations) = one(&mut reader, missing.len() > 1).map_err(damaged)? {
            deeper(missing.len())?;
            missing.push(declarations);
        }
    }
    Ok(())
}

/// Reads one type or one declaration; of a type that holds declarations only its head, and says how many follow.
fn one(reader: &mut BinaryReader<'_>, is_declaration: bool) -> Result<Option<u32>, BinaryReaderError> {
    let mut ahead = reader.clone();
    let is_type = !is_declaration || ahead.read_u8()? == DECLARES_TYPE;
    if is_type && HOLDS_DECLARATIONS.contains(&ahead.read_u8()?) {
        let declarations = ahead.read_var_u32()?;
        *reader = ahead;
        return Ok(Some(declarations));
    }
    if is_declaration {
        reader.read::<ComponentTypeDeclaration<'_>>()?;
    } else {
        reader.read::<ComponentType<'_>>()?;
    }
    Ok(None)
}

fn deeper(depth: usize) -> Result<usize, Error> {
    if depth < DEPTH_MAX {
        return Ok(depth + 1);
    }
    Err(Error::Refused(format!("its components or types are nested deeper than the {DEPTH_MAX} levels that are allowed")))
}

fn damaged(error: BinaryReaderError) -> Error {
    Error::Refused(format!("it is damaged: {error}"))
}
