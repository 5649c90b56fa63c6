//! What a build takes over, as a record.

use std::sync::Arc;

use archyard_model::convert::{
    image_from_proto, image_to_proto, lock_from_proto, lock_to_proto, origin_from_proto, origin_to_proto,
    platform_from_proto, platform_to_proto, tag_from_proto, tag_to_proto,
};
use archyard_model::{Invalid, Sha256};
use archyard_proto::journal::v1 as proto;
use bytes::Bytes;
use proto::heritage as parts;

use super::read::required;
use crate::core::Heritage;
use crate::core::heritage::{Carried, Promotion, Published};

pub(super) fn write(heritage: &Heritage) -> proto::Heritage {
    let carried = |(index, carried): (&u16, &Carried)| parts::Carried {
        index: u32::from(*index),
        image: Some(image_to_proto(&carried.image)),
        cross: carried.cross.as_ref().map(platform_to_proto),
    };
    proto::Heritage {
        origin: Some(origin_to_proto(heritage.origin)),
        lock: heritage.lock.as_deref().map(lock_to_proto),
        jobs: heritage.jobs.iter().map(carried).collect(),
        tag_sequence: heritage.tag_sequence,
        published: heritage.published.as_ref().map(|published| parts::Published {
            index: Bytes::copy_from_slice(published.index.0.as_bytes()),
            size_bytes: published.index.1,
            tags: published.tags.iter().map(tag_to_proto).collect(),
        }),
        promotion: heritage.promotion.as_ref().map(write_promotion),
    }
}

pub(super) fn read(message: proto::Heritage) -> Result<Heritage, Invalid> {
    let carried = |carried: parts::Carried| {
        let index = u16::try_from(carried.index).map_err(|_| {
            Invalid::new("heritage.jobs.index", carried.index, "a job is a position in a plan")
        })?;
        let image = image_from_proto(required("heritage.jobs.image", carried.image)?)?;
        let cross = carried.cross.as_ref().map(platform_from_proto).transpose()?;
        Ok::<_, Invalid>((index, Carried { image, cross }))
    };
    let published = |published: parts::Published| {
        Ok::<_, Invalid>(Published {
            index: (Sha256::try_from(&published.index[..])?, published.size_bytes),
            tags: published.tags.into_iter().map(tag_from_proto).collect::<Result<_, _>>()?,
        })
    };
    Ok(Heritage {
        origin: origin_from_proto(&required("heritage.origin", message.origin)?)?,
        lock: message.lock.map(lock_from_proto).transpose()?.map(Arc::new),
        jobs: message.jobs.into_iter().map(carried).collect::<Result<_, _>>()?,
        tag_sequence: message.tag_sequence,
        published: message.published.map(published).transpose()?,
        promotion: message.promotion.map(read_promotion).transpose()?,
    })
}

pub(super) fn write_promotion(promotion: &Promotion) -> proto::Promotion {
    proto::Promotion {
        staging: promotion.staging.clone(),
        index: Bytes::copy_from_slice(promotion.index.0.as_bytes()),
        size_bytes: promotion.index.1,
    }
}

pub(super) fn read_promotion(message: proto::Promotion) -> Result<Promotion, Invalid> {
    let index = (Sha256::try_from(&message.index[..])?, message.size_bytes);
    Ok(Promotion { staging: message.staging, index })
}
