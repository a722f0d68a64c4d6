//! What a component may be made of, measured by a loop before anything else reads it.
//!
//! The compiler and the encoder read a type within a type by calling themselves, and a stack that runs out ends the process; what they take for
//! components within components grows with the square of the depth; and a megabyte of code can be written such that compiling it takes all memory
//! there is. No toolchain comes near these bounds.

use std::ops::Range;

use wasmparser::{BinaryReader, BinaryReaderError, ComponentType, ComponentTypeDeclaration, FunctionBody, Parser, Payload};

use super::Error;

/// Levels of components and modules within each other, and of component and instance types within each other. Composed components have three.
const DEPTH_MAX: usize = 32;

/// Functions in all modules. CPython's component has some ten thousand, and each costs the compiler kilobytes.
const FUNCTIONS_MAX: usize = 100_000;
/// Bytes of one function. The loop of an interpreter is the longest there is, with a few hundred thousand.
const FUNCTION_BYTES_MAX: usize = 1 << 20;
/// Local variables of a function times its bytes: where paths meet, the compiler keeps a value of each variable for each path.
const LOCALS_TIMES_BYTES_MAX: u64 = 1 << 28;

/// The first byte of a component type and of an instance type, the only ones that hold declarations of other types.
const HOLDS_DECLARATIONS: [u8; 2] = [0x41, 0x42];
/// The first byte of a declaration that is a type.
const DECLARES_TYPE: u8 = 0x01;

/// Refuses a component that is beyond the bounds.
#[allow(clippy::wildcard_enum_match_arm, reason = "sections that nest nothing and hold no code; new ones come with each proposal")]
pub(super) fn check(component: &[u8]) -> Result<(), Error> {
    let (mut depth, mut functions) = (0_usize, 0_usize);
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(damaged)? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth = deeper(depth)?,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentTypeSection(section) => check_types(component, section.range())?,
            Payload::CodeSectionEntry(body) => {
                functions += 1;
                check_function(&body)?;
            }
            _ => {}
        }
    }
    if functions > FUNCTIONS_MAX {
        return Err(Error::Refused(format!("it has {functions} functions; {FUNCTIONS_MAX} are allowed")));
    }
    Ok(())
}

fn check_function(body: &FunctionBody<'_>) -> Result<(), Error> {
    let bytes = body.range().len();
    let mut locals = 0_u64;
    for group in body.get_locals_reader().map_err(damaged)? {
        locals += u64::from(group.map_err(damaged)?.0);
    }
    if bytes > FUNCTION_BYTES_MAX || locals.saturating_mul(bytes as u64) > LOCALS_TIMES_BYTES_MAX {
        return Err(Error::Refused(format!(
            "it has a function of {bytes} bytes with {locals} local variables, which takes too much to compile; make several of it"
        )));
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
