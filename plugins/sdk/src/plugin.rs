//! The descriptor of a plugin, from one macro.

/// Declares the plugin of a crate: `pub fn plugin() -> &'static abi::Plugin` for linking it in, and with the crate's
/// feature `export` the C symbol `diffx_plugin_v0` of a shared library. The version is the crate's unless given.
///
/// ```ignore
/// diffx_plugin::diffx_plugin! {
///     id: "org.example",
///     license: "MIT",
///     processes: [Ve],
///     samplers: [Euler],
/// }
/// ```
///
/// Kinds: `models`, `processes`, `guidances`, `samplers`, `grids`, `objectives`, in this order, each optional.
#[macro_export]
macro_rules! diffx_plugin {
    (
        id: $id:literal,
        $(version: $version:literal,)?
        license: $license:literal,
        $(models: [$($model:ty),* $(,)?],)?
        $(processes: [$($process:ty),* $(,)?],)?
        $(guidances: [$($guidance:ty),* $(,)?],)?
        $(samplers: [$($sampler:ty),* $(,)?],)?
        $(grids: [$($grid:ty),* $(,)?],)?
        $(objectives: [$($objective:ty),* $(,)?],)?
    ) => {
        const FACTORIES: &[*const $crate::abi::Factory] = &[
            $($(&raw const *$crate::FactoryOf::<$crate::AsModel<$model>>::FACTORY,)*)?
            $($(&raw const *$crate::FactoryOf::<$crate::AsProcess<$process>>::FACTORY,)*)?
            $($(&raw const *$crate::FactoryOf::<$crate::AsGuidance<$guidance>>::FACTORY,)*)?
            $($(&raw const *$crate::FactoryOf::<$crate::AsSampler<$sampler>>::FACTORY,)*)?
            $($(&raw const *$crate::FactoryOf::<$crate::AsGrid<$grid>>::FACTORY,)*)?
            $($(&raw const *$crate::FactoryOf::<$crate::AsObjective<$objective>>::FACTORY,)*)?
        ];

        // A static and not a constant: a shared library exports its address.
        #[cfg_attr(feature = "export", unsafe(export_name = "diffx_plugin_v0"))]
        static PLUGIN: $crate::abi::Plugin = $crate::abi::Plugin {
            magic: $crate::abi::MAGIC,
            abi_major: $crate::abi::ABI_MAJOR,
            abi_minor: $crate::abi::ABI_MINOR,
            struct_size: size_of::<$crate::abi::Plugin>() as u32,
            required_minor: $crate::abi::ABI_MINOR as u32,
            layout: $crate::abi::LAYOUT,
            n_factories: FACTORIES.len() as u32,
            factories: FACTORIES.as_ptr(),
            id: concat!($id, "\0").as_ptr().cast(),
            version: $crate::diffx_plugin!(@version $($version)?).as_ptr().cast(),
            license: concat!($license, "\0").as_ptr().cast(),
        };

        $crate::export_mirrors! {}

        /// The descriptor, for linking this plugin into a program.
        pub fn plugin() -> &'static $crate::abi::Plugin {
            &PLUGIN
        }
    };
    (@version) => { concat!(env!("CARGO_PKG_VERSION"), "\0") };
    (@version $version:literal) => { concat!($version, "\0") };
}

/// Without the feature `layout-check` there is nothing to describe.
#[cfg(not(feature = "layout-check"))]
#[doc(hidden)]
#[macro_export]
macro_rules! export_mirrors {
    () => {};
}
